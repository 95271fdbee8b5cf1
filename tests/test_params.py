"""`run.py params` and what `plan --method all` names: counts at the paper's sizes, three formats, refusals."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from harness.zoo import BACKBONES
from methods import OWN
from tests.conftest import ROOT, SMOKE, Program, assert_refused, run_process
from tests.documents import example
from tests.test_conformance import FAULTS, write

KEYS = {"method", "backbone", "adapter", "head", "backbone_trainable", "published_m"}
VIT_L = {
    "frozen": 0,
    "lora": 786_432,
    "adaptformer": 3_220_992,
    "vpt": 3_686_400,
    "rein": 2_990_081,
    "depthforge": 2_990_081,
    "spectralmoe": 5_737_985,
    "set": 5_520_897,
    "fada": 5_597_697,
    "full": 0,
}
PUBLISHED = {"rein": 2.99, "spectralmoe": 5.74, "set": 6.13, "fada": 11.65}
ALL = (
    "frozen",
    "lora",
    "adaptformer",
    "vpt",
    "rein",
    "set",
    "fada",
    "depthforge",
    "earth_adapter",
    "spectralmoe",
    "full",
)


def params(program: Program, *args: object, form: str = "json") -> str:
    result = program("params", "--format", form, "--backbone", "dinov3", *args)
    assert result.exit_code == 0, result
    return result.out


@pytest.fixture(scope="module")
def counted() -> tuple[str, list[dict[str, Any]]]:
    """What stands on stdout of a process of its own, for every method with a known count."""
    named = [word for name in VIT_L for word in ("--method", name)]
    result = run_process("params", "--format", "json", "--backbone", "dinov3", *named)
    assert result.exit_code == 0, result
    return result.out, json.loads(result.out)


def test_the_json_is_pure_and_has_every_key(counted: tuple[str, list[dict[str, Any]]]) -> None:
    text, rows = counted
    assert (text[0], text[-2:]) == ("[", "]\n")
    assert all(row.keys() >= KEYS for row in rows)
    assert [(row["method"], row["backbone"]) for row in rows] == [(name, "dinov3_l") for name in VIT_L]


def test_counts_at_vit_l(counted: tuple[str, list[dict[str, Any]]]) -> None:
    rows = {row["method"]: row for row in counted[1]}
    assert {name: row["adapter"] for name, row in rows.items()} == VIT_L
    assert all(row["head"] > 2e7 for row in rows.values())
    assert rows["full"]["backbone_trainable"] > 3e8
    assert not any(row["backbone_trainable"] for name, row in rows.items() if name != "full")


def test_published_counts_stand_beside_ours(counted: tuple[str, list[dict[str, Any]]]) -> None:
    rows = {row["method"]: row for row in counted[1]}
    for name, published in PUBLISHED.items():
        assert rows[name]["published_m"] == published
        assert rows[name]["difference_m"] == pytest.approx(VIT_L[name] / 1e6 - published)
    assert rows["full"]["published_m"] is None


def test_csv_says_the_same_as_json(program: Program) -> None:
    chosen = ("--method", "lora", "--method", "full")
    rows = json.loads(params(program, *chosen))
    table = list(csv.DictReader(io.StringIO(params(program, *chosen, form="csv"))))
    assert table == [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]


def test_the_table_names_methods_and_counts(program: Program) -> None:
    text = params(program, "--method", "set", "--method", "lora", form="table")
    for word in ("method", "adapter", "published", "5,520,897", "6.13", "-0.61", "786,432", "0.79"):
        assert word in text


def test_the_mini_scale_has_sizes_of_its_own_and_nothing_published(program: Program) -> None:
    (row,) = json.loads(params(program, "--method", "lora", "--scale", "mini"))
    assert 0 < row["adapter"] < 100_000
    assert row["published_m"] is None


def test_all_stands_for_what_suites_compare(program: Program) -> None:
    rows = json.loads(params(program, "--method", "all", "--backbone", "dinov3", "--scale", "mini"))
    assert {row["method"] for row in rows} == set(OWN) - {"depth_add"}


@pytest.mark.slow
def test_by_default_every_method_is_counted_on_every_backbone(program: Program) -> None:
    result = program("params", "--format", "json", "--scale", "mini")
    assert result.exit_code == 0, result
    rows = json.loads(result.out)
    assert {(row["method"], row["backbone"]) for row in rows} == {(m, b) for m in OWN for b in BACKBONES}
    assert all(row["declared"] in (None, row["adapter"]) for row in rows)


def test_a_method_from_outside_is_counted(program: Program, tmp_path: Path) -> None:
    declaring = write(tmp_path, "miscounts", FAULTS["miscounts"][2])
    scale = example(ROOT / "README.md", "Scale", tmp_path)
    rows = json.loads(params(program, "--method", scale, "--method", declaring))
    assert [(row["method"], row["adapter"], row["declared"]) for row in rows] == [
        ("scale", 24 * 1024, None),
        ("miscounts", 24 * 1024, 24),
    ]
    assert rows[0]["reachable"] == 24 * 1024
    assert rows[0]["published_m"] is None


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--format", "yaml"), ("unknown format", "yaml", "json", "csv", "table")),
        (("--method", "spectralmo"), ("unknown method", "spectralmoe")),
        (("--backbone", "dinov33"), ("unknown backbone", "dinov3")),
        (("--scale", "huge"), ("unknown scale", "huge", "paper")),
        (("--method", "nowhere.py:Scale"), ("nowhere.py", "does not exist")),
        (
            ("--method", "peft:prompt_tuning"),
            ("peft:prompt_tuning", "not offered", "configuration of a language model"),
        ),
    ],
    ids=["format", "method", "backbone", "scale", "file", "refused"],
)
def test_mistakes_are_refused(program: Program, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    result = program("params", *args)
    assert_refused(result, *words)
    assert not result.out


def test_a_plan_of_all_methods_names_each_that_is_no_control(program: Program, tmp_path: Path) -> None:
    result = program("plan", *SMOKE, "--method", "all", "--results", tmp_path)
    assert result.exit_code == 0, result
    for name in ALL:
        assert f" {name} " in result.text, name
    assert "depth_add" not in result.text
    assert "peft:" not in result.text
    assert f"{len(ALL)} trials" in result.text
