"""Suites: the paper's tables as cells, their union, what a newcomer gets, and a user's own suite from a file."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.catalogue import TASKS
from benchmarks.layouts import place_of
from benchmarks.layouts_paper import MSI, PAPER, TABLE2
from benchmarks.suites import SUITES, Cell, Suite, cells_of
from benchmarks.suites.ours import COMPARED, LINKING
from harness.estimate import guess
from harness.lookup import built_in
from harness.plan import Request, make_plan
from harness.trial import Trial
from harness.zoo import BACKBONES
from methods import METHODS, OWN
from tests.conftest import ROOT, Program, assert_refused
from tests.test_plan import EXTERNAL

PAPER_NAMES = [*(f"table{n}" for n in range(1, 8)), "fig5", "fig8"]


def trials(suite: str, **words: Any) -> list[Trial]:
    """The trials of a suite with one seed, at the mini scale unless said otherwise."""
    return [item.trial for item in make_plan(Request(**{"suite": suite, "seeds": 1, **words}), None).trials]


def places(found: list[Trial]) -> set[tuple[str, str, str]]:
    """Task, backbone and method of trials."""
    return {(trial.task.name, trial.backbone.name, trial.method.name) for trial in found}


def test_the_suites_of_the_house() -> None:
    ours = ["fair", "fidelity", "queries", "severity", "selection", "cost", "controls"]
    assert list(SUITES) == ["smoke", "all", *PAPER_NAMES, *ours]
    assert all(suite.seeds == (1 if name in ("smoke", "all") else 3) for name, suite in SUITES.items())


@pytest.mark.parametrize(
    ("suite", "mini", "paper"),
    [
        ("table1", 72, 72),
        ("table2", 72, 72),
        ("table3", 54, 54),
        ("table4", 10, 30),
        ("table5", 6, 18),
        ("table6", 5, 15),
        ("table7", 5, 15),
        ("fig5", 7, 7),
        ("fig8", 8, 12),
    ],
)
def test_each_table_has_a_trial_behind_each_entry(suite: str, mini: int, paper: int) -> None:
    assert len(trials(suite)) == mini
    cells = [cell for cell in SUITES[suite].cells if cell.at in ("", "paper")]
    assert len(cells) == paper
    (layout,) = SUITES[suite].layouts
    shown = {
        (place.task, place.backbone, place.method, str(place.options))
        for row in layout.rows
        for column in layout.columns
        if (place := place_of(row, column)) and place.task and place.backbone and not row.published_only
    }
    assert shown == {(cell.task, cell.backbone, cell.method, str(cell.options)) for cell in SUITES[suite].cells}


def test_all_is_the_union_and_runs_shared_trials_once() -> None:
    union = {trial.key for name in PAPER_NAMES for trial in trials(name, settings=LENGTH)}
    together = [trial.key for trial in trials("all", settings=LENGTH)]
    assert len(together) == len(set(together)) == 197
    assert set(together) == union
    assert sum(len(trials(name, settings=LENGTH)) for name in PAPER_NAMES) > len(union)


LENGTH = ("protocol.steps=100", "protocol.batch_size=8", "protocol.evaluations=2")


def test_all_ends_in_time_at_the_mini_scale() -> None:
    seconds = [guess(trial) for trial in trials("all", seeds=0)]
    assert sum(second for second in seconds if second) / 2 < 45 * 60
    assert {(t.protocol.steps, t.protocol.batch_size) for t in trials("all")} == {(50, 4)}
    assert SUITES["all"].protocol == {}, "the reduction is the mini scale's alone"
    for name in ("all", "table4", "table5", "table6", "table7"):
        assert "mini: " in SUITES[name].title


def test_tables_of_the_paper_run_where_the_paper_says() -> None:
    second = places(trials("table2"))
    assert ("whu_ohs_cr", "dofa", "rein") in second
    assert ("whu_ohs_cr", "dinov3", "rein") not in second
    assert ("oem_cc", "sam", "frozen") in second
    assert ("oem_cc", "sam", "rein") not in second
    assert not {"dstc", "softcon"} & {part for place in second for part in place}
    assert {row.label for row in TABLE2.rows if row.published_only} >= {"DSTC", "SoftCon", "Galileo"}
    assert places(trials("table3")) == {
        (task, backbone, method)
        for task in MSI
        for backbone in ("dinov3", "dofa")
        for method in ("frozen", "lora", "adaptformer", "vpt", "set", "fada", "rein", "depthforge", "spectralmoe")
    }


def test_ablations_are_variants_and_their_defaults_the_method_itself() -> None:
    (default,) = (t.key for t in trials("table1", tasks=["fbp_cs"], backbones=["dinov3"], methods=["spectralmoe"]))
    for name, others in (("table4", 4), ("table5", 2), ("table6", 4), ("table7", 4), ("fig5", 6), ("fig8", 3)):
        keys = [trial.key for trial in trials(name, backbones=["dinov3"])]
        assert len(keys) == others + 1
        assert default in keys, name
    (options,) = [str(t.options) for t in trials("table4", backbones=["dofa"]) if "fusion='add'" in str(t.options)]
    assert "depth=True" in options
    ranks = [trial.options.rank for trial in trials("table7")]  # type: ignore[attr-defined]
    assert ranks == [4, 8, 16, 32, 64]


def test_the_tables_of_the_paper_scale_keep_all_tasks_and_token_counts() -> None:
    at_paper = [cell for cell in SUITES["fig8"].cells if cell.at in ("", "paper")]
    assert [cell.options.get("tokens") for cell in at_paper if cell.backbone == "dofa"] == [25, 50, None, 150, 200, 250]
    for name in ("table4", "table5", "table6", "table7"):
        kept = {cell.task for cell in SUITES[name].cells if cell.at in ("", "paper")}
        assert kept == set(MSI)
        assert {trial.task.name for trial in trials(name)} == {"fbp_cs"}


def test_fair_has_every_method_everywhere() -> None:
    contenders = {name for name in OWN if not built_in(name).options_class.control}
    found = places(trials("fair"))
    assert {(backbone, method) for task, backbone, method in found if task == "fbp_cs"} == {
        (backbone, method) for backbone in BACKBONES for method in contenders
    }
    assert {(task, method) for task, backbone, method in found if backbone == "dinov3"} == {
        (task, method) for task in TASKS for method in contenders
    }
    assert any(cell.task == cell.backbone == cell.method == "*" for cell in SUITES["fair"].cells if cell.at == "paper")
    assert Counter(trial.options.preset for trial in trials("fair") if trial.method.name == "spectralmoe") == {
        "paper": 12,
        "released": 12,
    }


def test_queries_has_every_method_that_may_link() -> None:
    """Which do is asked of the models themselves: a linked head's method gives queries."""
    import torch

    from harness.segmentor import build_segmentor

    linking = set()
    for name in OWN:
        if built_in(name).options_class.links_queries and not built_in(name).options_class.control:
            trial = trials("smoke", methods=[name], scale="test")[0]
            with torch.no_grad():
                linking |= {name} if build_segmentor(trial).method.queries() is not None else set()
    assert set(LINKING) == linking
    pairs = Counter((t.method.name, t.protocol.queries) for t in trials("queries", tasks=["fbp_cs"]))
    assert pairs == {(name, queries): 1 for name in linking for queries in ("linked", "plain")}


def test_severity_shifts_the_targets_alone() -> None:
    found = trials("severity", methods=["rein"])
    assert [trial.scale.scenes.shift.severity for trial in found if trial.scale.scenes] == [0, 0.25, 0.5, 0.75, 1]
    assert len({trial.data_fingerprint for trial in found}) == 5
    (whole,) = trials("smoke", methods=["rein"], settings=["protocol.steps=200", "protocol.evaluations=4"])
    assert found[-1].key == whole.key, "severity 1 is the task as it is"
    assert {method for _, _, method in places(trials("severity"))} == set(COMPARED)


def test_severity_has_no_trials_on_files(program: Program, tmp_path: Path) -> None:
    assert_refused(program("plan", "--suite", "severity", "--data-root", tmp_path), "severity", "synthetic scenes")
    assert_refused(program("plan", "--suite", "severity", "--scale", "paper"), "severity", "synthetic scenes")


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """A method from outside."""
    (tmp_path / "mine.py").write_text(EXTERNAL)
    return f"{tmp_path / 'mine.py'}:Mine"


def test_a_newcomer_stands_wherever_methods_are_compared(mine: str) -> None:
    found = places(trials("all", methods=[mine]))
    expected = {
        *((task, backbone) for task in MSI for backbone in ("clip", "sam", "eva02", "dinov2", "dinov3", "dofa")),
        *((task, "dinov3") for task in ("loveda_r2u", "potsdam2vaihingen", "oem_cc")),
        ("whu_ohs_cr", "dofa"),
    }
    assert found == {(task, backbone, "mine") for task, backbone in expected}
    assert Counter(t.protocol.queries for t in trials("queries", methods=[mine])) == {"linked": 3, "plain": 3}
    assert len(trials("severity", methods=[mine])) == 5
    assert {name for _, _, name in places(trials("fair", methods=[mine]))} == {"mine"}


def test_what_the_user_names_stands_where_any_method_does() -> None:
    asked: dict[str, Any] = {"methods": ["lora"], "tasks": ["oem_cc"]}
    assert places(trials("all", **asked)) == {("oem_cc", "dinov3", "lora")}
    assert places(trials("all", **asked, backbones=["clip"])) == {("oem_cc", "clip", "lora")}


@pytest.mark.parametrize("suite", ["table4", "fig8", "fidelity"])
def test_an_ablation_has_no_place_for_another_method(program: Program, suite: str) -> None:
    assert_refused(program("plan", "--suite", suite, "--method", "rein"), "rein", suite, "spectralmoe")


def test_the_list_tells_size_and_time(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = program("list", "suites").out.splitlines()
    rows = {line.split()[0]: line for line in lines[2:] if line[1] != " "}
    assert set(rows) == set(SUITES)
    assert re.search(r"all +1 +197 +33 min", rows["all"])
    assert re.search(r"severity +3 +90 ", rows["severity"])


def test_the_plan_tells_the_time_before_anything_ran(program: Program, tmp_path: Path) -> None:
    said = program("plan", "--suite", "all", "--results", tmp_path).text
    assert "197 trials of 50 steps each, 0 cached, 197 to run, about 33 min of work" in said


MINE = """
name: ranks
title: ranks of LoRA beside REIN
seeds: 2
protocol: {steps: 100}
cells:
  - task: [fbp_cs, flair_cr]
    backbone: dinov3_l
    method: [frozen, rein]
  - {task: fbp_cs, backbone: dofa, method: lora, options: {rank: 4}, seeds: 1}
  - {task: fbp_cs, backbone: dofa, method: rein, protocol: {queries: plain}, severity: 0.5}
table: {rows: method, columns: task, metrics: [miou, macc], average: false}
"""


def test_a_suite_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "ranks.yaml"
    path.write_text(MINE)
    found = trials(str(path), seeds=0)
    assert places(found) == {
        *((task, "dinov3", method) for task in ("fbp_cs", "flair_cr") for method in ("frozen", "rein")),
        ("fbp_cs", "dofa", "lora"),
        ("fbp_cs", "dofa", "rein"),
    }
    assert Counter(trial.method.name for trial in found) == {"frozen": 4, "rein": 6, "lora": 1}
    (lora,) = [trial for trial in found if trial.method.name == "lora"]
    assert lora.options.rank == 4  # type: ignore[attr-defined]
    assert {trial.protocol.steps for trial in found} == {100}
    plain = [trial for trial in found if trial.protocol.queries == "plain"]
    assert {trial.shift["severity"] for trial in plain} == {0.5}


def test_a_suite_from_python_and_a_method_beside_it(tmp_path: Path, mine: str) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "from benchmarks.suites import Cell, Suite\n"
        "SUITE = Suite(name='own', title='mine', seeds=1, cells=(\n"
        "    Cell(task='fbp_cs', backbone='dinov3', method='mine.py:Mine', options={'gain': 2}),\n"
        "    Cell(task='fbp_cs', backbone='dinov3', method='frozen'),\n"
        "))\n"
    )
    found = trials(str(path))
    assert [trial.method.name for trial in found] == ["mine", "frozen"]
    assert found[0].method.source_sha256
    assert found[0].options.gain == 2  # type: ignore[attr-defined]
    assert trials(str(path), settings=["mine.gain=3"])[0].options.gain == 3  # type: ignore[attr-defined]


WRONG = {
    "key": (("seeds: 2", "sedes: 2"), ("unknown key sedes", "seeds")),
    "cell key": (("task: [fbp_cs, flair_cr]", "taks: fbp_cs"), ("unknown key cells.0.taks", "task")),
    "table key": (("rows: method", "row: method"), ("unknown key table.row", "rows")),
    "axis": (("columns: task", "columns: method"), ("both method",)),
    "metric": (("[miou, macc]", "[miou, iou]"), ("unknown metric 'iou'", "macc")),
    "seeds": (("seeds: 2", "seeds: two"), ("seeds", "integer")),
    "task": (("flair_cr]", "flair_rc]"), ("unknown task 'flair_rc'", "did you mean 'flair_cr'")),
    "backbone": (("dinov3_l", "dinov4_l"), ("unknown backbone 'dinov4_l'", "dinov3_l")),
    "method": (("method: lora", "method: lroa"), ("unknown method 'lroa'", "did you mean 'lora'")),
    "option": (("rank: 4", "rnak: 4"), ("lora.rnak", "did you mean 'rank'")),
    "protocol": (("steps: 100", "stpes: 100"), ("protocol.stpes", "did you mean 'steps'")),
    "severity": (("severity: 0.5", "severity: 2"), ("severity", "less than or equal to 1")),
    "taken name": (("name: ranks", "name: table1"), ("'table1' already", "another name")),
    "odd name": (("name: ranks", "name: My Ranks"), ("name", "pattern")),
    "no yaml": (("cells:", "cells: ]["), ("no YAML",)),
    "no mapping": ((MINE, "- a"), ("write the keys name, title")),
    "options of no method": (("method: lora, ", ""), ("options needs a method",)),
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_in_a_suite_file_is_one_line(
    program: Program, tmp_path: Path, change: tuple[str, str], words: tuple[str, ...]
) -> None:
    path = tmp_path / "ranks.yaml"
    path.write_text(MINE.replace(*change))
    results = tmp_path / "results"
    assert_refused(program("--suite", path, "--results", results), *((words,) if isinstance(words, str) else words))
    assert not results.exists()


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("gone.yaml", None, ("gone.yaml does not exist", "list suites")),
        ("suite.txt", "", ("suite.txt", ".yaml")),
        ("own.py", "SUITE = 3", ("own.py", "SUITE = Suite")),
        ("own.py", "SUITE = ", ("suite file", "own.py", "SyntaxError")),
        (
            "own.py",
            "from benchmarks.suites import Suite\nSUITE = Suite(name='x', title='', cells=(), seeds=1)",
            ("no cells",),
        ),
    ],
)
def test_other_files_are_no_suites(
    program: Program, tmp_path: Path, name: str, body: str | None, words: tuple[str, ...]
) -> None:
    if body is not None:
        (tmp_path / name).write_text(body)
    assert_refused(program("plan", "--suite", tmp_path / name), *words)


def test_published_only_rows_have_no_cells_and_no_cell_stands_twice() -> None:
    cells = cells_of(PAPER)
    assert all(cells.count(cell) == 1 for cell in cells)
    assert {cell.method for cell in cells} <= set(METHODS)
    assert isinstance(SUITES["all"], Suite)
    assert isinstance(cells[0], Cell)


def test_a_plan_needs_no_heavy_import(tmp_path: Path) -> None:
    path = tmp_path / "ranks.yaml"
    path.write_text(MINE)
    code = (
        "import sys; sys.argv = ['run.py', 'plan', '--suite', sys.argv[1], '--results', '/nowhere']\n"
        "from harness.cli import run\n"
        "try:\n    run()\n"
        "finally:\n    print([n for n in ('torch', 'pandas', 'timm') if n in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == "[]", ended.stderr


def test_the_examples_of_the_document_are_suites(program: Program, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "suites.md").read_text()
    (yaml,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "ranks.yaml").write_text(yaml)
    (tmp_path / "ranks.py").write_text(python)
    said = program("plan", "--suite", tmp_path / "ranks.yaml", "--results", tmp_path / "results").text
    assert f"{(4 + 2 + 2) * 3 + 1} trials of 200 steps each" in said
    said = program("plan", "--suite", tmp_path / "ranks.py", "--results", tmp_path / "results").text
    assert "15 trials of 200 steps each" in said
    named = set(re.findall(r"`(\w+)`", text.partition("## A method of yours")[0]))
    assert set(SUITES) - {"smoke"} <= named
