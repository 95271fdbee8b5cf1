"""One training step at a scale's sizes with random weights: what is a fault, and that ours have none at the paper's."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from harness.apart import Died, call_apart
from harness.quick_draws import BLOCK, QuickDraws
from harness.zoo import BACKBONES
from methods import OWN
from tests.conftest import Program, Result, assert_refused

HEAD = """
import os
from types import MappingProxyType
import torch
from torch import nn
from methods.base import Method
from methods.options import Options

class Mine(Options):
    name = title = "mine"
    paper = "none"
    ports = MappingProxyType({"default": "author_checked"})

class Sound(Method):
    Options = Mine

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.gain = nn.Parameter(torch.ones(spec.width))

    def refine(self, x, layer, depth=None):
        return x * self.gain

    @classmethod
    def expected_count(cls, spec, options):
        return spec.width

"""

FAULTS = {
    "sound": ("", "class Faulty(Sound): pass"),
    "idle": (
        r"method\.spare gets no gradient: use it, or declare it in may_be_unused",
        "class Faulty(Sound):\n"
        "    def __init__(self, spec, options):\n"
        "        super().__init__(spec, options)\n"
        "        self.spare = nn.Parameter(torch.ones(0))\n",
    ),
    "declared_idle": (
        "",
        "class Faulty(Sound):\n"
        "    may_be_unused = ('spare',)\n"
        "    def __init__(self, spec, options):\n"
        "        super().__init__(spec, options)\n"
        "        self.spare = nn.Parameter(torch.ones(0))\n",
    ),
    "thaws": (
        r"frozen encoder\.model\.blocks\.0\.attn\.qkv\.weight got a gradient",
        "class Faulty(Sound):\n"
        "    def install(self, encoder):\n"
        "        weight = encoder.blocks[0].attn.qkv.weight\n"
        "        def thaw(module, inputs):\n"
        "            weight.requires_grad_(True)\n"
        "            weight.register_post_accumulate_grad_hook(lambda p: p.requires_grad_(False))\n"
        "        encoder.blocks[0].register_forward_pre_hook(thaw)\n",
    ),
    "declares_in_vain": (
        r"0 parameters of the backbone train, and trains_backbone is True",
        "class Faulty(Sound):\n    trains_backbone = True\n",
    ),
    "miscounts": (
        r"96 adapter parameters, 97 by expected_count",
        "class Faulty(Sound):\n"
        "    @classmethod\n"
        "    def expected_count(cls, spec, options):\n"
        "        return spec.width + 1\n",
    ),
    "diverges": (
        r"FloatingPointError: the loss is nan",
        "class Faulty(Sound):\n    def refine(self, x, layer, depth=None):\n        return x * self.gain / 0 * 0\n",
    ),
    "has_wild_gradients": (
        r"the gradient of method\.gain is not finite",
        "class Faulty(Sound):\n"
        "    def refine(self, x, layer, depth=None):\n"
        "        return x + (self.gain - 1).sqrt()\n",
    ),
    "cannot_train": (
        r"all gradients of 1 tensors outside the head are 0",
        "class Faulty(Sound):\n    def refine(self, x, layer, depth=None):\n        return x + 0 * self.gain\n",
    ),
    "gives_other_maps": (
        r"maps at the head have shapes \[\(1, 64, 16, 16\)",
        "class Faulty(Sound):\n"
        "    def pyramid(self, maps):\n"
        "        return [nn.functional.avg_pool2d(x, 2) for x in maps[:-1]] + maps[-1:]\n",
    ),
    "raises": (
        r"ZeroDivisionError: division by zero \(line \d+ of mine\.py\)",
        "class Faulty(Sound):\n    def refine(self, x, layer, depth=None):\n        return x * (1 / 0)\n",
    ),
    "dies": (
        r"its process was killed, most likely because the memory was not enough",
        "class Faulty(Sound):\n    def refine(self, x, layer, depth=None):\n        os.kill(os.getpid(), 9)\n",
    ),
}
"""Fault -> what must be said of it (nothing of sound methods), and the class that has it."""


def check(program: Program, method: str, *args: object, scale: str = "mini", backbone: str = "dinov3") -> Result:
    return program("check", method, "--scale", scale, "--backbone", backbone, *args)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told(program: Program, tmp_path: Path, name: str) -> None:
    said, body = FAULTS[name]
    (tmp_path / "mine.py").write_text(HEAD + body)
    result = check(program, f"{tmp_path / 'mine.py'}:Faulty")
    assert "Traceback" not in result.out + result.err
    assert result.exit_code == (1 if said else 0), result
    found = re.findall(r"^mine on dinov3: (.*)$", result.out, re.MULTILINE)
    assert len(found) == bool(said), result.out
    assert all(re.match(said, each) for each in found), found


def test_every_method_and_preset_is_stepped(program: Program) -> None:
    result = check(program, "all", "--set", "protocol.crop=32")
    assert result.exit_code == 0, result
    assert "32 px, batch 1, fp32, CPU" in result.text
    assert "random weights" in result.text
    rows = re.findall(r"^ +ok  (.+) on dinov3  ", result.out, re.MULTILINE)
    assert sorted(rows) == sorted([*OWN, "spectralmoe (preset=released)"])
    assert max(map(len, result.out.splitlines())) <= 120


def test_the_contract_of_several_methods_is_shown_one_by_one(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.conformance.examine", lambda trial, on_check: {"runs": ""})
    result = program("check", "all", "--backbone", "dinov3", "--backbone", "sam")
    assert result.exit_code == 0, result
    assert re.findall(r"conformance of (\w+)", result.text) == list(OWN)
    monkeypatch.setattr(
        "harness.conformance.examine", lambda trial, on_check: {"runs": "it does not" * (trial.method.name == "vpt")}
    )
    assert program("check", "all", "--backbone", "dinov3").exit_code == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("lorra", "--scale", "paper"), ("unknown method", "lora")),
        (("lora", "--scale", "papers"), ("unknown scale", "paper")),
        (("lora", "--scale", "paper", "--backbone", "dinov33"), ("unknown backbone", "dinov3")),
        (("lora", "--scale", "paper", "--set", "protocol.crop=100"), ("protocol.crop=100", "multiple of 32")),
        (("lora", "--scale", "paper", "--set", "rein.rank=4"), ("--set rein.*", "drop it")),
    ],
    ids=["method", "scale", "backbone", "crop", "setting"],
)
def test_mistakes_are_refused(program: Program, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(program("check", *args), *words)


# --- At the paper's size: 24 blocks (SAM: 32) of full width, and the depth encoder where the method has one


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [spec.builds["paper"].name for spec in BACKBONES.values()])
def test_spectralmoe_takes_a_step_on_every_backbone(program: Program, backbone: str) -> None:
    result = check(program, "spectralmoe", "--set", "spectralmoe.preset=paper", scale="paper", backbone=backbone)
    assert result.exit_code == 0, result
    assert "128 px, batch 1, fp32" in result.text
    assert re.findall(r"^ +ok  (\w+) on (\w+)  ", result.out, re.MULTILINE) == [("spectralmoe", backbone)]


@pytest.mark.slow
@pytest.mark.parametrize("method", OWN)
def test_every_method_takes_a_step_on_dinov2(program: Program, method: str) -> None:
    presets = ("--set", "spectralmoe.preset=released") if method == "spectralmoe" else ()
    result = check(program, method, *presets, scale="paper", backbone="dinov2_l")
    assert result.exit_code == 0, result
    assert "128 px, batch 1, fp32" in result.text
    assert len(re.findall(r"^ +ok  ", result.out, re.MULTILINE)) == 1


# --- The instruments


def seven(number: int) -> int:
    return 7 * number


def test_a_call_apart_answers_with_its_own_peak_memory() -> None:
    answers = [call_apart("tests.test_check_steps:seven", 6), call_apart("builtins:bytearray", 300 * 2**20)]
    assert answers[0].value == 42
    assert answers[1].peak_mb - answers[0].peak_mb > 250
    assert call_apart("tests.test_check_steps:seven", 6).peak_mb < answers[1].peak_mb - 250


def test_a_call_apart_raises_what_the_function_does() -> None:
    with pytest.raises(ZeroDivisionError):
        call_apart("operator:floordiv", 1, 0)
    with pytest.raises(Died):
        call_apart("os:_exit", 3)


def test_quick_draws_keep_the_distribution() -> None:
    torch.manual_seed(0)
    with QuickDraws():
        layer, small = nn.Linear(1024, 512), nn.Linear(16, 16)
        normal = torch.empty(5 * BLOCK // 2).normal_(1, 3)
    assert normal.mean() == pytest.approx(1, abs=0.05)
    assert normal.std() == pytest.approx(3, abs=0.05)
    weight = layer.weight.detach()
    assert weight.abs().max() == pytest.approx(1 / 32, rel=1e-3)
    assert weight.std() == pytest.approx(1 / 32 / 3**0.5, rel=0.01)
    assert torch.linalg.matrix_rank(weight[: BLOCK // 1024]) == BLOCK // 1024
    assert len(torch.unique(weight, dim=0)) == len(weight), "no row is another's copy"
    assert small.weight.unique().numel() == 256


def test_quick_draws_leave_small_tensors_alone() -> None:
    for draw in ("uniform_", "normal_"):
        torch.manual_seed(0)
        expected = getattr(torch.empty(64, 64), draw)(2, 3)
        torch.manual_seed(0)
        with QuickDraws():
            assert torch.equal(getattr(torch.empty(64, 64), draw)(2, 3), expected)


def test_no_weight_is_left_undrawn() -> None:
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
    try:
        with QuickDraws(), warnings.catch_warnings():
            model = timm.create_model("vit_small_patch16_224", num_classes=0)
    finally:
        torch.use_deterministic_algorithms(False)
    for name, tensor in model.state_dict().items():
        assert tensor.isfinite().all(), name
        if tensor.numel() > BLOCK and name != "pos_embed":
            assert tensor.std() == pytest.approx(0.02, rel=0.05), name
