"""The page on fidelity against the code: names, presets and counts it tells, and claims that no other test shows."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.lookup import find_method, load_class
from harness.scales import SCALES
from methods import METHODS, OWN
from methods.options import Options
from methods.rein import Rein
from methods.set import Set
from methods.spectralmoe import SpectralMoE
from tests.adapters import SAM_H, VIT_L
from tests.conftest import ROOT
from tests.models import SPEC

TESTS = ROOT / "tests"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: the heading above it, and its cells by the titles of their columns."""

    section: str
    cells: dict[str, str]

    @property
    def names(self) -> list[str]:
        """What stands in backticks."""
        return [name for cell in self.cells.values() for name in quoted(cell)]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def read() -> str:
    return (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")


def rows(page: str) -> Iterator[Row]:
    section = ""
    titles: list[str] = []
    for line in page.splitlines():
        if line.startswith("#"):
            section = line
        if not line.startswith("|"):
            titles = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not titles:
            titles = cells
        elif set(line) - set("|-"):
            yield Row(section=section, cells=dict(zip(titles, cells, strict=True)))


ROWS = list(rows(read()))


# --- What a name stands for


@cache
def defined(path: Path) -> set[str]:
    """Names at the top of a module."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def options_of(method: str) -> type[Options]:
    return find_method(method).options_class


def check(name: str) -> None:
    """Raise `ValueError` where a name of the page stands for nothing."""
    if "::" in name:
        file, function = name.split("::")
        if not (function.startswith("test_") and (TESTS / file).is_file() and function in defined(TESTS / file)):
            raise ValueError(f"{name}: no such test")
    elif "/" in name:
        file, _, member = name.partition(":")
        if not (ROOT / file).is_file() or (member and member not in defined(ROOT / file)):
            raise ValueError(f"{name}: no such file, or nothing of that name in it")
    elif name not in METHODS:
        check_setting(name)


def check_setting(name: str) -> None:
    """A name such as `rein.rank`, `rein.rank=8` or `protocol.queries=plain`."""
    option, given, value = name.partition("=")
    owner, _, field = option.partition(".")
    if owner == "protocol":
        protocol = SCALES["paper"].protocol
        protocol.change({field: value if given else getattr(protocol, field, None)})
    elif owner in METHODS:
        plain = options_of(owner)()
        options_of(owner).make({field: value if given else getattr(plain, field, None)})
    elif owner in ("task", "backbone") and option == f"{owner}:{option.partition(':')[2]}":
        raise ValueError(f"{name}: not in {owner}s")
    else:
        raise ValueError(f"{name}: neither a method, an option, a protocol field, a file nor a test")


def test_every_name_in_the_tables_stands_for_something() -> None:
    complaints = []
    for row in ROWS:
        for name in row.names:
            try:
                check(name)
            except ValueError as error:
                complaints.append(str(error))
    assert not complaints, "\n".join(complaints)


MADE_UP = (
    *("spectralmoe.gatting", "spectralmoe.gating=l3", "spectralmoe", "protocol.bands", "protocol.queries=both"),
    *("reins", "reins.rank", "rein", "peft:dora.rank", "paper", "nothing"),
    *("test_golden.py::test_valuess", "test_goldn.py::test_values", "test_golden.py::build"),
    *("methods/reins.py", "methods/rein.py:Reins", "harness/head.py:nothing"),
)


@pytest.mark.parametrize("name", [name for name in MADE_UP if name not in METHODS])
def test_a_made_up_name_is_noticed(name: str) -> None:
    page = f"## A\n\n| a | verified by |\n|---|---|\n| text | `rein.rank` and `{name}` |\n"
    (row,) = rows(page)
    assert row.names == ["rein.rank", name]
    check("rein.rank")
    with pytest.raises(ValueError, match=re.escape(name.partition("=")[0].rpartition(".")[2].partition(":")[0])):
        check(name)


# --- What the page tells


def test_every_method_has_a_section_with_a_table() -> None:
    sections = {name for row in ROWS for name in quoted(row.section) if row.section.startswith("## `")}
    assert sections == set(OWN) | {"peft:<tuner>"}
    tuners = {name for row in ROWS if "peft:<tuner>" in row.section for name in quoted(row.cells["tuners"])}
    assert tuners == {name for name in METHODS if name.startswith("peft:")}


def test_the_37_points_of_spectralmoe_have_a_row_each_and_no_cell_is_empty() -> None:
    points = [row for row in ROWS if "#" in row.cells]
    assert [row.cells["#"] for row in points] == [str(number) for number in range(1, 38)]
    assert all(row.section.startswith("## `spectralmoe`") and len(row.cells) == 8 for row in points)
    assert all(all(row.cells.values()) for row in ROWS)
    for row in points:
        assert any("::" in name for name in quoted(row.cells["verified by"])), row.cells["topic"]


def assert_preset_has(preset: str, option: str, value: str) -> None:
    chosen, same = (SpectralMoE.Options.make({"preset": preset, **given}) for given in ({}, {option: value}))
    assert getattr(chosen, option) == getattr(same, option), (preset, option, value)


def test_values_of_presets_are_as_told() -> None:
    told: dict[str, set[str]] = {}
    for row in ROWS:
        for title, cell in row.cells.items():
            for preset in quoted(title):
                for option in (name.removeprefix("spectralmoe.") for name in quoted(cell)):
                    if not option.startswith("protocol."):
                        assert_preset_has(preset, *option.split("="))
                        told.setdefault(preset, set()).add(option.partition("=")[0])
    differing = {"gating", "combine", "fusion", "token_attention", "drop_first_token", "aux_weight", "aux_reduction"}
    assert differing | {"load", "scale_init", "experts", "noise"} <= told["paper"] & told["released"]


def test_values_in_the_column_where_are_the_defaults() -> None:
    """The protocol's are those of the scale `paper`; presets and variants are names of other values."""
    told = 0
    for row in ROWS:
        for name in quoted(row.cells.get("where", "")):
            option, given, value = name.partition("=")
            method, _, field = option.partition(".")
            if not given or field in ("preset", "variant"):
                continue
            settings = SCALES["paper"].protocol.change if method == "protocol" else options_of(method).make
            assert getattr(settings({}), field) == getattr(settings({field: value}), field), name
            told += 1
    assert told > 20


COUNTS = [row.cells for row in ROWS if row.section.endswith("Parameter counts")]


@pytest.mark.parametrize("told", COUNTS, ids=lambda told: told["method"].strip("`"))
def test_counts_are_as_told(told: dict[str, str]) -> None:
    (name,) = quoted(told["method"])
    cls = load_class(METHODS[name])
    options = cls.Options.make({})
    for title, spec, backbones in (("ViT-L", VIT_L, {"dinov3", "dofa"}), ("SAM-H", SAM_H, {"sam"})):
        assert int(told[title].replace(",", "")) == cls.expected_count(spec, options), title
        published = {options.published_m.get(backbone) for backbone in backbones} - {None}
        if name == "earth_adapter":
            published = {options.published_m["dinov2"]} if title == "ViT-L" else set()
        assert {str(value) for value in published} == {told[f"published {title}"]} - {"-"}, title


def test_every_method_is_counted_on_the_page() -> None:
    assert {name for told in COUNTS for name in quoted(told["method"])} == set(OWN)


def test_the_counts_that_were_tried_are_as_told() -> None:
    told = {quoted(row.cells["method"])[0]: row.cells for row in ROWS if "what was tried" in row.cells}
    assert set(told) == {"set", "fada", "spectralmoe"}
    for name, cells in told.items():
        cls = load_class(METHODS[name])
        specs = (VIT_L, SAM_H) if name != "spectralmoe" else (SAM_H,)
        ours = "; ".join(f"{cls.expected_count(spec, cls.Options.make({})):,}" for spec in specs)
        assert cells["ours"] == ours
        for spec, title in zip(specs, ("ViT-L", "SAM-H") if len(specs) == 2 else ("SAM-H",), strict=True):
            published = cls.Options.published_m["sam" if spec is SAM_H else "dinov3"]
            assert f"{title} {published}" in cells["published"]
    reins = [2 * Rein.expected_count(spec, Rein.Options.make({})) for spec in (VIT_L, SAM_H)]
    matched = [Set.expected_count(spec, Set.Options.make({"preset": "published_count"})) for spec in (VIT_L, SAM_H)]
    for pair in (reins, matched):
        assert f"{pair[0]:,}; {pair[1]:,}" in told["set"]["what was tried"]
    without = replace(SAM_H, depth_width=1280)
    alone = SpectralMoE.expected_count(without, SpectralMoE.Options.make({}))
    assert f"{alone:,}" in told["spectralmoe"]["what was tried"]


# --- Claims of the page that no other test shows


def built(preset: str, **options: Any) -> SpectralMoE:
    torch.manual_seed(0)
    spec = replace(SPEC, width=64, depth_width=64, queries=20)
    return SpectralMoE(spec, SpectralMoE.Options.make({"preset": preset, **options}))


@pytest.mark.parametrize(("preset", "spread"), [("paper", 0.02), ("released", 0.0)])
@pytest.mark.parametrize("rank", [4, 16])
def test_first_values_of_spectralmoe(preset: str, spread: float, rank: int) -> None:
    method = built(preset, rank=rank)
    p = {name: parameter.detach() for name, parameter in method.named_parameters()}
    assert 0.98 / rank**0.5 < p["experts_a"].abs().max() <= 1 / rank**0.5
    assert abs(p["experts_a"].std().item() * (3 * rank) ** 0.5 - 1) < 0.05, "uniform"
    assert not p["experts_b"].any()
    assert not p["noise"].any()
    assert p["gate"].std().item() == pytest.approx(spread, rel=0.1)
    assert p["scale"].item() == pytest.approx(0.001)
    for layer in ("token_to_feature", "output"):
        for tensor in ("weight", "bias"):
            assert 0.85 / 8 < p[f"{layer}.{tensor}"].abs().max() <= 1 / 8, "U(-1/sqrt(D), 1/sqrt(D)) for D = 64"


@pytest.mark.parametrize(
    ("width", "rank", "bound"),
    [(1024, 16, 0.08183), (1280, 16, 0.08115), (1024, 0, math.sqrt(6 / (3 * 256 + 1024)))],
)
def test_first_values_of_the_tokens(width: int, rank: int, bound: float) -> None:
    spec = replace(VIT_L, blocks=1, width=width, depth_width=width)
    torch.manual_seed(0)
    for name, bank in (("rein", ""), ("depthforge", ""), ("set", "phase."), ("set", "amplitude."), ("fada", "high.")):
        if rank == 0 and bank:
            continue
        cls = load_class(METHODS[name])
        method = cls(spec, cls.Options.make({"rank": rank}))
        for tensor in (f"{bank}tokens_a", f"{bank}tokens_b") if rank else ("tokens",):
            assert 0.99 * bound < method.get_parameter(tensor).abs().max().item() <= 1.0001 * bound, (name, tensor)
        assert method.get_parameter("scale").item() == pytest.approx(0.001)


def test_the_router_of_the_paper_preset_learns_by_its_defaults() -> None:
    assert SpectralMoE.Options.preset == "paper"
    torch.manual_seed(0)
    method = SpectralMoE(replace(SPEC, width=64, depth_width=64), SpectralMoE.Options.make({})).train()
    before = {name: method.get_parameter(name).detach().clone() for name in ("gate", "noise")}
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-4)
    x, depth = torch.randn(2, 50, 64), torch.randn(2, 50, 64)
    total = torch.zeros(())
    for layer in range(SPEC.blocks):
        out, aux = method.refine(x, layer, depth)
        total = total + out.square().mean() + aux / SPEC.blocks
    total.backward()
    optimizer.step()
    for name, value in before.items():
        parameter = method.get_parameter(name)
        assert parameter.grad is not None
        moved = (parameter.detach() - value).abs()
        # every element by about the learning rate: the gradient stands clear of Adam's epsilon
        assert moved.median() > 0.8e-4, name
        for layer in range(SPEC.blocks):
            for modality in range(2):
                assert parameter.grad[layer, modality].any(), (name, layer, modality)


@pytest.mark.parametrize("top_k", [1, 2])
def test_gradients_of_the_smooth_load_flow_through_logits_noise_and_bar(top_k: int) -> None:
    """Against finite differences under one and the same noise."""
    method = built("released", top_k=top_k, gating="dot").double().train()
    torch.manual_seed(3)
    x = torch.randn(4, 64, dtype=torch.float64)
    weights = torch.randn(6, dtype=torch.float64)
    for parameter in (method.gate, method.noise):
        parameter.data.normal_(0, 0.1)

    def loss(tokens: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(4)
        return (method.route(tokens, 0, 0).load_E * weights).sum()

    tokens = x.clone().requires_grad_()
    loss(tokens).backward()
    for tensor in (method.gate, method.noise, tokens):
        direction = torch.randn_like(tensor)
        step, values = 1e-6, []
        for sign in (1, -1):
            tensor.data.add_(direction, alpha=sign * step)
            values.append(loss(tokens).item())
            tensor.data.sub_(direction, alpha=sign * step)
        slope = (values[0] - values[1]) / (2 * step)
        assert tensor.grad is not None
        assert (tensor.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-8)
