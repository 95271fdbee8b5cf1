"""The conformance suite catches every fault it is there for, and passes what is sound: ours, and from outside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.conformance import CHECKS, Specimen, examine, maps
from harness.params import adapter_parameters
from harness.plan import Request, make_plan
from harness.trial import Trial
from harness.zoo import BACKBONES
from methods import OWN
from tests.conftest import ROOT, Program, assert_refused
from tests.documents import example

HEAD = '''
from types import MappingProxyType

import numpy as np
import torch
from torch import nn

from methods.base import Method, Queries
from methods.options import Options


def options(called, depth=False):
    class Named(Options):
        name = called
        title = called.capitalize()
        paper = "none"
        ports = MappingProxyType({"default": "inferred"})
        needs_depth = depth

    return Named


class Gain(Method):
    """A sound method, to be spoiled."""

    @classmethod
    def expected_count(cls, spec, options):
        return spec.blocks * spec.width

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.gain = nn.Parameter(torch.ones(spec.blocks, spec.width))

    def refine(self, x, layer, depth=None):
        return x * self.gain[layer]

'''

THAW = "    def install(self, encoder):\n        self.block = (encoder.blocks[1],)\n"
SOUND = {
    "gain": "    pass\n",
    "dropout": """
    def refine(self, x, layer, depth=None):
        return nn.functional.dropout(x, 0.2, self.training) * self.gain[layer]
""",
    "queries_only": """
    refine = Method.refine

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.gain = nn.Parameter(torch.randn(spec.queries, spec.query_width))

    @classmethod
    def expected_count(cls, spec, options):
        return spec.queries * spec.query_width

    def queries(self):
        return Queries(position_QC=self.gain, replace_content=False)
""",
}
"""Sound methods that an over-strict check would refuse."""

FAULTS: dict[str, tuple[str, str, str]] = {
    "thaws": (
        "keeps the backbone",
        "trains",
        "    def install(self, encoder):\n        encoder.requires_grad_(True)\n",
    ),
    "thaws_after_a_step": (
        "keeps the backbone",
        "is frozen at first and trains later",
        THAW + "\n    def after_step(self, step):\n        self.block[0].requires_grad_(True)\n",
    ),
    "thaws_after_two_steps": (
        "keeps the backbone",
        "is frozen at first and trains later",
        THAW + "\n    def after_step(self, step):\n        self.block[0].requires_grad_(step == 2)\n",
    ),
    "thaws_in_refine": (
        "keeps the backbone",
        "is frozen at first and trains later",
        THAW
        + """
    def refine(self, x, layer, depth=None):
        self.block[0].requires_grad_(True)
        return x * self.gain[layer]
""",
    ),
    "leaks": (
        "gradients",
        r"frozen encoder\.model\.blocks\.1\..* got a gradient",
        THAW
        + """
    def refine(self, x, layer, depth=None):
        self.block[0].mlp.fc2.bias.requires_grad_(self.training)
        return x * self.gain[layer]

    def after_step(self, step):
        self.block[0].requires_grad_(False)
""",
    ),
    "changes_in_place": (
        "keeps the backbone",
        "frozen encoder.* has other values after training",
        THAW
        + """
    def after_step(self, step):
        with torch.no_grad():
            self.block[0].mlp.fc2.bias.add_(0.1)
""",
    ),
    "changes_at_install": (
        "keeps the backbone",
        "install changes the values of frozen encoder",
        """
    identity_at_init = False

    def install(self, encoder):
        with torch.no_grad():
            encoder.blocks[1].mlp.fc2.bias.add_(0.1)
""",
    ),
    "ignores_input": (
        "reads its input",
        "the input is ignored",
        "    identity_at_init = False\n"
        "    def refine(self, x, layer, depth=None):\n        return self.gain[layer].expand_as(x)\n",
    ),
    "ignores_input_once": (
        "reads its input",
        "the input is ignored",
        """
    identity_at_init = False

    def refine(self, x, layer, depth=None):
        return self.gain[layer].expand_as(x) if layer == 0 else x * self.gain[layer]
""",
    ),
    "inert": (
        "acts",
        "inert",
        "    def refine(self, x, layer, depth=None):\n        return x + 0 * self.gain[layer]\n",
    ),
    "batch_mean": (
        "samples apart",
        "alone and in a batch .* samples are mixed",
        "    def refine(self, x, layer, depth=None):\n        return x + (self.gain[layer] - 1) * x.mean(0, True)\n",
    ),
    "batch_norm": (
        "samples apart",
        "in training, .* samples are mixed",
        """
    identity_at_init = False

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.norm = nn.BatchNorm1d(spec.width, affine=False)

    def refine(self, x, layer, depth=None):
        return self.norm(x.mT).mT * self.gain[layer]
""",
    ),
    "batch_order": (
        "samples apart",
        "another order of the batch",
        """
    def refine(self, x, layer, depth=None):
        place = torch.arange(len(x), device=x.device)[:, None, None]
        return x + place * (self.gain[layer] - 1)
""",
    ),
    "random_list": (
        "saves and loads",
        "saving and loading changes the features",
        """
    identity_at_init = False

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.mixing = [torch.randn(spec.width) for _ in range(spec.blocks)]

    def refine(self, x, layer, depth=None):
        return x * self.gain[layer] + self.mixing[layer]
""",
    ),
    "unsaved_buffer": (
        "saves and loads",
        "saving and loading changes the features",
        """
    identity_at_init = False

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.register_buffer("basis", torch.randn(spec.width), persistent=False)

    def refine(self, x, layer, depth=None):
        return x * self.gain[layer] + self.basis
""",
    ),
    "parameters_in_a_list": (
        "saves and loads",
        r"shape \(96,\) gets gradients, but is not registered",
        """
    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.shifts = [nn.Parameter(torch.zeros(spec.width)) for _ in range(spec.blocks)]

    def refine(self, x, layer, depth=None):
        return x * self.gain[layer] + self.shifts[layer]
""",
    ),
    "unsaved_average": (
        "saves and loads",
        "saving and loading changes the features",
        """
    average = 0.0

    def after_step(self, step):
        self.average = self.average + self.gain.detach().mean()

    def refine(self, x, layer, depth=None):
        return x * self.gain[layer] + self.average
""",
    ),
    "miscounts": (
        "counts",
        "576 adapter parameters at scale test, 6 by expected_count",
        "    @classmethod\n    def expected_count(cls, spec, options):\n        return spec.blocks\n",
    ),
    "miscounts_large": (
        "counts",
        "24,576 adapter parameters at scale paper, 576 by expected_count",
        "    @classmethod\n    def expected_count(cls, spec, options):\n        return 576\n",
    ),
    "own_start": (
        "repeats",
        "gain differs at the start between two models from one seed",
        """
    identity_at_init = False

    def __init__(self, spec, options):
        super().__init__(spec, options)
        start = np.random.default_rng().random(self.gain.shape)
        self.gain = nn.Parameter(torch.as_tensor(start, dtype=torch.float32, device=self.gain.device))
""",
    ),
    "own_noise": (
        "repeats",
        "differs after training between two models from one seed",
        """
    def refine(self, x, layer, depth=None):
        if not self.training:
            return x * self.gain[layer]
        noise = torch.as_tensor(np.random.default_rng().random(x.shape), dtype=x.dtype)
        return x * (self.gain[layer] + 0.1 * noise)
""",
    ),
    "noise_in_evaluation": (
        "repeats",
        "output for the same images differs",
        """
    identity_at_init = False

    def refine(self, x, layer, depth=None):
        return x * self.gain[layer] + 0.1 * torch.randn_like(x)
""",
    ),
    "no_identity": (
        "identity at start",
        "a fresh adapter changes the features by .* identity_at_init = False",
        "    def refine(self, x, layer, depth=None):\n        return x * (self.gain[layer] + 0.01)\n",
    ),
    "no_bf16": (
        "bf16",
        r"Error: .*BFloat16.* \(line \d+ of mine\.py\)",
        """
    def refine(self, x, layer, depth=None):
        square = x[:, :4, :4].matmul(x[:, :4, :4].mT)
        return x * self.gain[layer] + 0 * torch.linalg.det(square)[:, None, None]
""",
    ),
    "overflows_in_bf16": (
        "bf16",
        "the loss is nan",
        """
    def refine(self, x, layer, depth=None):
        product = x @ torch.eye(x.shape[-1])
        return x * self.gain[layer] * (float("nan") if product.dtype == torch.bfloat16 else 1)
""",
    ),
    "unused": (
        "gradients",
        r"method\.spare gets no gradient: use it, or declare it in may_be_unused",
        """
    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.spare = nn.Parameter(torch.ones(3))

    @classmethod
    def expected_count(cls, spec, options):
        return spec.blocks * spec.width + 3
""",
    ),
    "detached": (
        "gradients",
        r"none of 1 tensors gets a gradient: the change is detached",
        """
    may_be_unused = ("gain",)

    def refine(self, x, layer, depth=None):
        return x * self.gain[layer].detach()
""",
    ),
    "unused_by_a_longer_name": (
        "gradients",
        r"method\.investigate gets no gradient",
        """
    may_be_unused = ("gate",)

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.investigate = nn.Parameter(torch.ones(3))

    @classmethod
    def expected_count(cls, spec, options):
        return spec.blocks * spec.width + 3
""",
    ),
    "unused_pyramid": (
        "gradients",
        r"method\.lateral\.weight gets no gradient",
        """
    pyramid_parts = ("lateral",)

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.lateral = nn.Linear(3, 3)
""",
    ),
    "ignores_depth": ("reads its input", "the depth cue is ignored", "    Options = options('ignores_depth', True)\n"),
    "nan_in_evaluation": (
        "runs",
        "NaN or infinite in evaluation",
        """
    def refine(self, x, layer, depth=None):
        return x * self.gain[layer] if self.training else x * float("nan")
""",
    ),
    "install_fails": (
        "runs",
        r"AttributeError: .*no_such_part.* \(line \d+ of mine\.py\)",
        "    def install(self, encoder):\n        encoder.no_such_part\n",
    ),
    "any_error": (
        "runs",
        r"ZeroDivisionError: .* \(line \d+ of mine\.py\)",
        "    def refine(self, x, layer, depth=None):\n        return x * (1 / 0)\n",
    ),
    "shape": (
        "runs",
        r"shape\.refine returned shape .* it must keep",
        "    def refine(self, x, layer, depth=None):\n        return x[:, 1:]\n",
    ),
}
"""Fault -> the check that must name it, what it must say, and the class body that has it."""

ALSO = {
    "thaws": set(CHECKS) - {"counts"},
    "thaws_after_a_step": {"saves and loads"},
    "thaws_in_refine": {"gradients", "saves and loads"},
    "changes_in_place": {"saves and loads"},
    "noise_in_evaluation": {"samples apart", "saves and loads"},
}
"""Which other checks a fault shows in; the rest must not complain."""

VARIANTS = (
    *("thaws_after_two_steps", "changes_at_install", "ignores_input_once", "batch_norm", "unsaved_buffer"),
    *("unsaved_average", "miscounts_large", "own_noise", "unused_by_a_longer_name", "unused_pyramid"),
)
"""Faults for which the check that must name them is run alone, for speed."""


def class_name(name: str) -> str:
    return name.title().replace("_", "")


def write(folder: Path, name: str, body: str) -> str:
    """A file with the method in it, as `--method` takes it."""
    path = folder / "mine.py"
    named = "" if "Options =" in body else f"    Options = options({name!r})\n"
    path.write_text(f"{HEAD}\nclass {class_name(name)}(Gain):\n{named}{body}")
    return f"{path}:{class_name(name)}"


def trials(method: str, *settings: str) -> list[Trial]:
    """What `check` examines: one per backbone and preset."""
    request = Request(suite="fair", scale="test", tasks=("fbp_cs",), methods=(method,), seeds=1, settings=settings)
    return [planned.trial for planned in make_plan(request, None).trials]


def wrong(method: str, *settings: str) -> dict[str, str]:
    """What the checks find on the first backbone."""
    return {check: said for check, said in examine(trials(method, *settings)[0], lambda: None).items() if said}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check, said, body = FAULTS[name]
    if name in VARIANTS:
        monkeypatch.setattr("harness.conformance.CHECKS", {key: CHECKS[key] for key in ("runs", check)})
    found = wrong(write(tmp_path, name, body))
    assert re.search(said, found.get(check, "")), found
    if check != "runs":
        assert set(found) == {check} | ALSO.get(name, set())


def test_every_check_has_a_fault() -> None:
    assert {check for check, _, _ in FAULTS.values()} == set(CHECKS)


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_method_passes(name: str, tmp_path: Path) -> None:
    assert not wrong(write(tmp_path, name, SOUND[name]))


def test_an_error_is_told_once(tmp_path: Path) -> None:
    found = wrong(write(tmp_path, "any_error", FAULTS["any_error"][2]))
    assert sum("ZeroDivisionError" in said for said in found.values()) == 1, found
    assert all("does not run" in said for check, said in found.items() if check != "runs"), found


# --- through the command line


def test_the_example_of_the_readme_passes(program: Program, tmp_path: Path) -> None:
    result = program("check", example(ROOT / "README.md", "Scale", tmp_path), "--backbone", "dinov3")
    assert result.exit_code == 0, result
    assert "Traceback" not in result.err
    for check in CHECKS:
        assert re.search(rf"{check} +ok\b", result.out), result.out
    assert "FAILED" not in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_a_fault_ends_in_exit_code_1(program: Program, tmp_path: Path) -> None:
    result = program("check", write(tmp_path, "thaws", FAULTS["thaws"][2]), "--backbone", "dinov3")
    assert result.exit_code == 1, result
    assert "Traceback" not in result.out + result.err
    assert re.search(r"keeps the backbone +FAILED", result.out)
    assert "keeps the backbone on dinov3: the backbone trains, which is not declared by trains_backbone" in result.out
    assert "runs on dinov3: ValueError: thaws.install thawed the backbone" in result.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("lorra",), ("unknown method", "lora")),
        (("lora", "--backbone", "dinov33"), ("unknown backbone", "dinov3")),
        (("lora", "--set", "lora.rnk=3"), ("lora.rnk", "rank")),
        (("missing.py:Scale",), ("missing.py", "does not exist")),
        (("peft:prompt_tuning",), ("peft:prompt_tuning", "not offered", "vpt")),
    ],
    ids=["method", "backbone", "option", "file", "refused"],
)
def test_mistakes_are_refused(program: Program, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(program("check", *args), *words)


def test_every_preset_is_checked(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    examined: list[str] = []

    def note(trial: Trial, on_check: object) -> dict[str, str]:
        examined.append(trial.options.preset)
        return {"runs": ""}

    monkeypatch.setattr("harness.conformance.examine", note)
    result = program("check", "spectralmoe", "--backbone", "dinov3")
    assert result.exit_code == 0, result
    assert sorted(examined) == ["paper", "released"]
    assert "preset=released" in result.text


# --- the instrument itself


def test_a_shaken_adapter_is_far_from_its_start() -> None:
    specimen = Specimen(trials("lora")[0])
    fresh, shaken = (dict(adapter_parameters(model)) for model in (specimen.build(), specimen.shaken()))
    assert fresh.keys() == shaken.keys()
    assert all((fresh[name] - shaken[name]).std() > 0.2 for name in fresh)


def test_a_random_backbone_is_no_fault_of_the_method() -> None:
    found = examine(trials("lora", "protocol.encoder_init=random")[0], lambda: None)
    assert not [said for said in found.values() if said]


def test_the_bare_backbone_is_the_one_of_the_trial() -> None:
    for settings in ((), ("protocol.encoder_init=random",)):
        specimen = Specimen(trials("frozen", *settings)[0])
        theirs, ours = dict(specimen.bare().named_parameters()), dict(specimen.build().encoder.named_parameters())
        assert all(theirs[name].equal(ours[name]) for name in ours)
        assert len(maps(specimen.build(), specimen.images_BCHW)) == 4


# --- our own methods

TUNERS = ["peft:dora", "peft:adalora", "peft:boft"]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", [*OWN, *TUNERS])
def test_our_methods_keep_to_the_contract(name: str, backbone: str) -> None:
    made = [trial for trial in trials(name) if trial.backbone.name == backbone]
    assert made
    for trial in made:
        found = {check: said for check, said in examine(trial, lambda: None).items() if said}
        assert not found, trial.options.preset
