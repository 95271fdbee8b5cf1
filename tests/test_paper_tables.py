"""The tables of a suite in its own layout: numbers of records, named gaps, published numbers, and files that compile.

Records are made from the smoke run's real ones: their inputs are those of the trials that a plan asks for, their scores
are set, and they go through the store. One suite is really run.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.layouts_paper import TABLE1, TABLE2
from benchmarks.published import FOLDER as PUBLISHED
from benchmarks.tasks import INGREDIENTS, Shift
from harness.plan import Request, make_plan
from harness.records import Record, RecordStore
from harness.scales import SCALES
from harness.status import Status
from harness.trial import Trial
from tests.conftest import TINY, Program, assert_refused, bodies, contents
from tests.test_plan import EXTERNAL

Row = dict[str, str]


class Results:
    """A results folder of records made to order.

    Args:
        template: a done record of the smoke run.
        folder: the results folder.
    """

    def __init__(self, template: Record, folder: Path) -> None:
        self.template, self.folder, self.made = template, folder, 0

    def store(self, scale: str) -> RecordStore:
        return RecordStore(self.folder / scale / "records")

    def add(self, trial: Trial, miou: float, **more: Any) -> str:
        """A done record of a trial: target mIoU at `source_val`, 1 less at `last`, 2 more at `oracle`."""
        result = dict(self.template.result)
        scores = {}
        for rule, offset in (("source_val", 0.0), ("last", -1.0), ("oracle", 2.0)):
            chosen = result["selections"][rule]
            target = {**chosen["scores"]["target"], "miou": miou + offset, "macc": miou + 10 + offset}
            scores[rule] = {**chosen, "scores": {**chosen["scores"], "target": target}}
        inputs = {**trial.inputs(), **more}
        labels = trial.labels()
        self.made += 1
        finished = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.made)
        run = {**self.template.run, "finished": finished.isoformat(), "commit": "abc123"}
        record = Record(
            key=more.get("key", trial.key),
            status=Status.DONE,
            result={**result, "inputs": inputs, "labels": labels, "selections": scores},
            run=run,
            arrays=self.template.arrays,
        )
        self.store(trial.scale.name).write(record)
        return record.key

    def fail(self, trial: Trial) -> None:
        """A failed record of a trial."""
        error = {"type": "RuntimeError", "message": "no", "traceback": ""}
        result = {"inputs": trial.inputs(), "labels": trial.labels()}
        run = {**self.template.run, "finished": "2030-01-01T00:00:59+00:00"}
        self.store(trial.scale.name).write(
            Record(key=trial.key, status=Status.FAILED, result=result, run=run, error=error)
        )


@pytest.fixture
def made(smoke_results: Path, tmp_path: Path) -> Results:
    """An empty results folder to fill."""
    template = next(iter(RecordStore(smoke_results / "test" / "records")))
    (tmp_path / "results" / "test" / "records").mkdir(parents=True)
    return Results(template, tmp_path / "results")


def trials(suite: str, **words: Any) -> list[Trial]:
    """The trials of a suite at scale test, with one seed."""
    request = Request(**{"suite": suite, "scale": "test", "seeds": 1, **words})
    return [item.trial for item in make_plan(request, None).trials]


def rows_of(results: Path, suite: str, name: str = "", scale: str = "test") -> list[Row]:
    """The Markdown table's rows by heading."""
    text = (results / scale / "tables" / suite / f"{name or suite}.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def caption(results: Path, suite: str, name: str = "", scale: str = "test") -> str:
    """What stands below a table."""
    return (results / scale / "tables" / suite / f"{name or suite}.md").read_text().splitlines()[-1]


def build(program: Program, results: Path, suite: object, *more: object) -> str:
    """Build a suite's tables from the records alone; what was printed."""
    result = program("tables", "--suite", suite, "--scale", "test", "--results", results, *more)
    assert result.exit_code == 0, result
    return result.text


def test_a_suite_that_ran_leaves_its_table_and_rebuilds_it_byte_by_byte(program: Program, tmp_path: Path) -> None:
    results = tmp_path / "results"
    ran = program("--suite", "table6", *TINY[2:], "--seeds", 2, "--results", results)
    assert ran.exit_code == 0, ran
    folder = results / "test" / "tables" / "table6"
    name = "table6-steps2-evaluations1"
    assert {path.name for path in folder.iterdir()} == {f"{name}.md", f"{name}.tex", f"{name}.csv", "document.tex"}
    assert "experts per token of SpectralMoE (Tab. 6)" in ran.text
    assert "steps=2" in ran.text
    assert "tables of each task" in ran.text
    before = contents(folder)
    shutil.rmtree(folder)
    build(program, results, "table6", "--set", "protocol.steps=2", "--set", "protocol.evaluations=1")
    assert contents(folder) == before

    shown = {row["Top-k"]: row["Cross-sensor"] for row in rows_of(results, "table6", name)}
    assert list(shown) == [f"k = {k}" for k in (1, 2, 3, 4, 5)]
    for k in (1, 2, 3, 4, 5):
        same = [body for body in bodies(results).values() if body["result"]["inputs"]["options"]["top_k"] == k]
        scores = [body["result"]["selections"]["source_val"]["scores"]["target"]["miou"] for body in same]
        assert len(scores) == 2
        assert re.fullmatch(rf"(\*\*)?{sum(scores) / 2:.1f} \[\S+, \S+\](\*\*)?", shown[f"k = {k}"])
    # the suite's own recipe was not run: nothing of this one is taken for it
    build(program, results, "table6")
    assert {row["Cross-sensor"] for row in rows_of(results, "table6")} == {"not run"}


def test_gaps_have_names_and_are_never_numbers(program: Program, made: Results) -> None:
    *some, failing, missing = trials("table1", backbones=["clip"], tasks=["fbp_cs"])
    for i, trial in enumerate(some):
        made.add(trial, 40.0 + i)
    made.fail(failing)
    build(program, made.folder, "table1")
    rows = {row["Method"]: row for row in rows_of(made.folder, "table1") if row["Group"] == "CLIP"}
    assert rows["Freeze"]["Cross-sensor"] == "40.0"
    assert rows["DepthForge"]["Cross-sensor"] == "failed"
    assert rows["SpectralMoE"]["Cross-sensor"] == "not run"
    assert rows["Freeze"]["Cross-regional"] == "not run"
    assert rows["Freeze"]["Avg."] == rows["Freeze"]["Gap"] == "incomplete"
    assert "67 not run, 1 failed, 48 incomplete" in caption(made.folder, "table1")
    with (made.folder / "test" / "tables" / "table1" / "table1.csv").open() as file:
        values = [row for row in csv.DictReader(file) if row["gap"]]
    assert {row["value"] for row in values} == {""}
    assert {row["gap"] for row in values} == {"not run", "failed", "incomplete", "–"}
    assert missing.method.name == "spectralmoe"


def test_the_best_of_each_group_is_bold_averages_and_gaps_are_of_the_row(program: Program, made: Results) -> None:
    for trial in trials("table1", backbones=["clip", "sam"]):
        base = {"fbp_cs": 40.0, "fbp_cr": 50.0, "flair_cr": 61.0}[trial.task.name]
        made.add(trial, base + {"rein": 3, "fada": 2.96}.get(trial.method.name, 0) + (trial.backbone.name == "sam"))
    build(program, made.folder, "table1")
    rows = {(row["Group"], row["Method"]): row for row in rows_of(made.folder, "table1")}
    assert rows["CLIP", "REIN"]["Cross-sensor"] == "**43.0**"
    assert rows["CLIP", "FADA"]["Cross-sensor"] == "**43.0**", "equal as shown"
    assert rows["SAM", "REIN"]["Cross-sensor"] == "**44.0**"
    assert rows["SAM", "SET"]["Cross-sensor"] == "41.0"
    assert rows["CLIP", "REIN"]["Avg."] == "**53.3**"
    assert rows["CLIP", "SET"]["Gap"] == "+2.0"
    assert rows["CLIP", "SET"]["Params (M)"] == "0.000" or float(rows["CLIP", "SET"]["Params (M)"]) > 0


def test_seeds_give_intervals_and_differing_numbers_of_them_are_told(program: Program, made: Results) -> None:
    found = trials("table1", backbones=["clip"], tasks=["fbp_cs"], methods=["frozen", "rein"], seeds=3)
    for trial in found:
        if trial.seed == 2 and trial.method.name == "rein":
            made.fail(trial)
        else:
            made.add(trial, 40.0 + trial.seed)
    build(program, made.folder, "table1")
    rows = {row["Method"]: row for row in rows_of(made.folder, "table1") if row["Group"] == "CLIP"}
    assert re.fullmatch(r"\*\*41\.0 \[[\d.]+, [\d.]+\]\*\*", rows["Freeze"]["Cross-sensor"])
    assert re.fullmatch(r"40\.5 \[[\d.]+, [\d.]+\] \(n=2, 1 failed\)", rows["REIN"]["Cross-sensor"])
    assert "n = 2, 3 seed(s). Brackets: 95 % intervals" in caption(made.folder, "table1")


def test_the_footer_says_what_stands_behind(program: Program, made: Results) -> None:
    made.add(trials("table1", backbones=["clip"], methods=["frozen"], tasks=["fbp_cs"])[0], 40)
    printed = build(program, made.folder, "table1")
    below = caption(made.folder, "table1")
    assert "test (synthetic)" in printed
    for words in (
        "Checkpoint source_val",
        "held-out source scenes",
        "n = 1 seed(s)",
        "Protocol version 2",
        "commit abc123",
    ):
        assert words in below
    assert "Leakage: source and targets disjoint by construction (generated)." in below
    assert "trainable, without the head, which has 0.23 M" in below
    assert "Brackets" not in below


def test_selection_changes_the_checkpoint_and_all_shows_each(program: Program, made: Results) -> None:
    made.add(trials("table1", backbones=["clip"], methods=["frozen"], tasks=["fbp_cs"])[0], 40)

    def shown(*more: str) -> list[str]:
        build(program, made.folder, "table1", *more)
        return [row["Cross-sensor"] for row in rows_of(made.folder, "table1") if row["Cross-sensor"] != "not run"]

    assert shown("--selection", "last") == ["39.0"]
    assert shown("--selection", "oracle") == ["42.0"]
    assert "chosen on the target" in caption(made.folder, "table1")
    assert shown("--selection", "all") == ["40.0", "39.0", "42.0"]
    rules = [row["Checkpoint"] for row in rows_of(made.folder, "table1")]
    assert rules[:3] == ["source_val", "last", "oracle"]


def test_the_suite_on_selection_has_a_column_of_each(program: Program, made: Results) -> None:
    made.add(trials("selection", methods=["rein"], tasks=["fbp_cs"])[0], 40)
    build(program, made.folder, "selection")
    (row,) = [row for row in rows_of(made.folder, "selection") if row["Last"] != "not run"]
    assert (row["Group"], row["Method"]) == ("Cross-sensor", "REIN")
    assert [row[name] for name in ("Last", "Source val.", "Oracle", "Gap")] == ["39.0", "40.0", "42.0", "+2.0"]


def test_queries_shows_the_difference(program: Program, made: Results) -> None:
    for trial in trials("queries", methods=["rein"], tasks=["fbp_cs"]):
        made.add(trial, 40 if trial.protocol.queries == "plain" else 37.5)
    build(program, made.folder, "queries")
    (row,) = [row for row in rows_of(made.folder, "queries") if row["Method"] == "REIN"]
    assert [row[f"Cross-sensor {name}"] for name in ("linked", "plain", "Δ")] == ["37.5", "40.0", "-2.5"]
    assert row["FLAIR Δ"] == "incomplete"


def test_severity_has_a_column_for_each_shift(program: Program, made: Results) -> None:
    for trial in trials("severity", methods=["rein"]):
        assert trial.scale.scenes
        made.add(trial, 50 - 10 * trial.scale.scenes.shift.severity)
    build(program, made.folder, "severity")
    (row,) = [row for row in rows_of(made.folder, "severity") if row["Method"] == "REIN"]
    assert [row[s] for s in ("0", "0.25", "0.5", "0.75", "1")] == ["50.0", "47.5", "45.0", "42.5", "40.0"]


def test_fair_and_cost_have_a_row_for_every_method(program: Program, made: Results) -> None:
    for trial in trials("cost", methods=["lora", "spectralmoe"]):
        made.add(trial, 40)
    build(program, made.folder, "fair")
    build(program, made.folder, "cost")
    fair = rows_of(made.folder, "fair")
    mine = {row["Method"]: row for row in fair if row["Group"] == "DINOv3"}
    assert list(mine)[-3:] == ["SpectralMoE", "SpectralMoE (preset=released)", "Full fine-tuning"]
    assert mine["LoRA"]["fbp_cs"] == mine["SpectralMoE (preset=released)"]["fbp_cs"] == "**40.0**"
    assert mine["LoRA"]["oem_cc"] == "not run"
    assert {row["oem_cc"] for row in fair if row["Group"] == "CLIP"} == {"–"}, "no part of the suite at the mini scale"
    (cost,) = [row for row in rows_of(made.folder, "cost") if row["Method"] == "LoRA"]
    assert float(cost["fbp_cs Train (s)"]) >= 0
    assert int(cost["fbp_cs Memory (MB)"]) > 100


@pytest.fixture
def at_paper_scale(made: Results) -> Callable[..., None]:
    """Adds a record of the paper's scale, from a trial of scale test."""

    def add(trial: Trial, miou: float) -> None:
        build_name = trial.backbone.builds["paper"].name
        paper = replace(trial, scale=replace(SCALES["paper"]))
        inputs = {
            "backbone": build_name,
            "data": "files",
            "scale": "paper",
            "protocol": SCALES["paper"].protocol.inputs(),
            "key": trial.key,
        }
        made.add(paper, miou, **inputs)

    return add


def test_published_numbers_stand_beside_ours_at_the_paper_scale(
    program: Program, made: Results, at_paper_scale: Callable[..., None]
) -> None:
    for trial in trials("table2", methods=["rein", "spectralmoe"], tasks=["fbp_cs"]):
        at_paper_scale(trial, 60.0)
    shown = program("tables", "--suite", "table2", "--scale", "paper", "--results", made.folder)
    assert shown.exit_code == 0, shown
    rows = {row["Method"]: row for row in rows_of(made.folder, "table2", scale="paper")}
    head = "Multispectral Cross-sensor"
    assert rows["REIN"][f"{head} mIoU"] == "**60.0**"
    assert rows["REIN"][f"{head} mIoU, paper"] == "59.06 (a)"
    assert rows["REIN"][f"{head} Δ mIoU"] == "+0.94"
    assert rows["REIN"][f"{head} mAcc, paper"] == "73.44 (a,e)"
    assert rows["SpectralMoE"][f"{head} Δ mIoU"] == "-6.19"
    assert rows["DSTC (published only)"][f"{head} mIoU, paper"] == "29.79"
    assert rows["DSTC (published only)"][f"{head} mIoU"] == "–"
    assert rows["REIN"]["RGB R2U mIoU"] == "not run"
    assert rows["CLIP-L"]["Hyperspectral Cross-regional mIoU"] == "–", "three bands alone"
    below = caption(made.folder, "table2", scale="paper")
    assert "(a) measured on DINOv2-L" in below
    assert "(p) the released checkpoint is of epoch 18 of 20" in below
    assert "(g)" not in below, "only the codes that stand in the table"
    hidden = program("tables", "--suite", "table2", "--scale", "paper", "--results", made.folder, "--no-published")
    assert hidden.exit_code == 0
    assert "59.06" not in (made.folder / "paper" / "tables" / "table2" / "table2.md").read_text()


def test_at_other_scales_published_numbers_are_left_out_unless_asked_for(program: Program, made: Results) -> None:
    made.add(trials("table1", backbones=["clip"], methods=["set"], tasks=["fbp_cs"])[0], 40)
    build(program, made.folder, "table1")
    assert "paper" not in " ".join(rows_of(made.folder, "table1")[0])
    build(program, made.folder, "table1", "--published")
    row = rows_of(made.folder, "table1")[1]
    assert row["Cross-sensor, paper"] == "55.00"
    assert row["Avg., paper"] == "55.83"
    assert row["Params (M), paper"] == "6.13"
    assert not any("Δ" in name for name in row), "a mini number has no distance to a published one"


def test_every_published_number_finds_its_place(program: Program, made: Results) -> None:
    for layout, count in ((TABLE1, 96 + 24), (TABLE2, 210)):  # scores, and once a row the parameters
        build(program, made.folder, layout.name, "--published")
        with (made.folder / "test" / "tables" / layout.name / f"{layout.name}.csv").open() as file:
            shown = [row for row in csv.DictReader(file) if row["published"]]
        assert len(shown) == count
        with (PUBLISHED / f"{layout.name}.csv").open() as file:
            flags = sorted(row["flag"] for row in csv.DictReader(file))
        assert sorted(row["flag"].replace(",", " ") for row in shown if row["metric"] != "parameters") == flags


def test_records_of_two_protocol_versions_are_refused_until_run_again(program: Program, made: Results) -> None:
    first, second = trials("table1", backbones=["clip"], tasks=["fbp_cs"], methods=["frozen", "rein"])
    made.add(first, 40)
    made.add(second, 41, protocol_version=3)
    where = ("--scale", "test", "--results", made.folder)
    for command in (("tables", "--suite", "table1"), ("tables",)):
        refused = program(*command, *where)
        assert_refused(refused, "table", "1 of version 2 and 1 of version 3", "run their suites again", "--results DIR")
    made.add(first, 42, protocol_version=3, key="0123456789abcdef")
    build(program, made.folder, "table1")
    rows = {row["Method"]: row for row in rows_of(made.folder, "table1") if row["Group"] == "CLIP"}
    assert (rows["Freeze"]["Cross-sensor"], rows["REIN"]["Cross-sensor"]) == ("**42.0**", "41.0")


def test_a_method_from_outside_gets_its_row_in_every_comparison(
    program: Program, made: Results, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(EXTERNAL)
    name = f"{tmp_path / 'mine.py'}:Mine"
    for trial in trials("all", methods=[name], tasks=["fbp_cs"]):
        made.add(trial, 45)
    build(program, made.folder, "all")
    first = [row for row in rows_of(made.folder, "all", "table1") if row["Method"] == "Mine"]
    assert [(row["Group"], row["Cross-sensor"]) for row in first] == [
        (group, "45.0") for group in ("CLIP", "SAM", "EVA02", "DINOv2")
    ]
    groups = [row["Group"] for row in rows_of(made.folder, "all", "table2") if row["Method"] == "Mine"]
    assert groups == ["PEFT"]
    assert not [row for row in rows_of(made.folder, "all", "table4") if row["Component"] == "Mine"]
    build(program, made.folder, "table3", "--method", "full")
    last = [row["Method"] for row in rows_of(made.folder, "table3") if row["Group"] == "FLAIR"][-2:]
    assert last == ["Mine", "Full fine-tuning"], "what the user names has a row before it ran"


def test_a_method_from_outside_runs_its_own_trials_and_has_its_row_in_every_table_of_all(
    program: Program, made: Results, tmp_path: Path
) -> None:
    for trial in trials("all", tasks=["fbp_cs"]):
        made.add(trial, 30)
    before = contents(made.folder / "test" / "records")
    (tmp_path / "mine.py").write_text(EXTERNAL)
    name = f"{tmp_path / 'mine.py'}:Mine"
    asked = ("--suite", "all", "--scale", "test", "--results", made.folder, "--method", name)
    assert "22 trials of 4 steps each, 0 cached, 22 to run" in program("plan", *asked).text
    ran = program(*asked, "--task", "fbp_cs", "--backbone", "dinov3")
    assert ran.exit_code == 0, ran
    after = contents(made.folder / "test" / "records")
    assert {file: after[file] for file in before} == before, "no other trial ran"
    (own,) = [body for key, body in bodies(made.folder).items() if f"{key}.json" not in before]
    assert own["result"]["inputs"]["method"] == "mine"
    miou = f"{own['result']['selections']['source_val']['scores']['target']['miou']:.1f}"
    for trial in trials("all", tasks=["fbp_cs"], methods=[name]):
        if trial.backbone.name != "dinov3":
            made.add(trial, 45)
    build(program, made.folder, "all")

    found: dict[str, dict[str, list[str]]] = {}
    tables = [path.stem for path in (made.folder / "test" / "tables" / "all").glob("*.md")]
    for table in tables:
        for row in rows_of(made.folder, "all", table):
            numbers = [text.strip("*") for head, text in row.items() if re.search("Cross-sensor$|mIoU", head)]
            if "Mine" in row.values():
                found.setdefault(table, {})[row["Group"]] = [text for text in numbers if text[0].isdigit()]
            elif row.get("Method") == "REIN":
                assert {text for text in numbers if text[0].isdigit()} <= {"30.0"}, "the others stay"
    cross_sensor = {"Cross-sensor": [miou, "45.0"], "Cross-regional": [], "FLAIR": []}
    assert found == {
        "table1": {group: ["45.0"] for group in ("CLIP", "SAM", "EVA02", "DINOv2")},
        "table2": {"PEFT": [miou]},
        "table3": cross_sensor,
    }
    assert len(tables) == 9


def test_other_data_of_a_task_never_mix(program: Program, made: Results) -> None:
    older, newer = trials("table1", backbones=["clip"], tasks=["fbp_cs"], methods=["frozen", "rein"])
    made.add(older, 40, data_fingerprint="before")
    made.add(newer, 41)
    build(program, made.folder, "table1")
    rows = {row["Method"]: row for row in rows_of(made.folder, "table1") if row["Group"] == "CLIP"}
    assert (rows["Freeze"]["Cross-sensor"], rows["REIN"]["Cross-sensor"]) == ("not run", "41.0")


def test_a_suite_from_a_file_has_the_table_it_asks_for(program: Program, made: Results, tmp_path: Path) -> None:
    path = tmp_path / "ranks.yaml"
    path.write_text(
        "name: ranks\ntitle: ranks & REIN\nseeds: 1\ncells:\n"
        "  - {task: [fbp_cs, flair_cr], backbone: [dinov3, dofa], method: rein}\n"
        "  - {task: fbp_cs, backbone: dinov3, method: lora, options: {rank: 4}}\n"
        "table: {rows: backbone, columns: task, metrics: [miou, macc]}\n"
    )
    for trial in trials(str(path)):
        made.add(trial, 40 + (trial.backbone.name == "dofa"))
    build(program, made.folder, path)
    rows = {(row["Group"], row["Backbone"]): row for row in rows_of(made.folder, "ranks")}
    assert set(rows) == {("REIN", "DINOv3"), ("REIN", "DOFA"), ("LoRA (rank=4)", "DINOv3")}
    assert rows["REIN", "DOFA"]["fbp_cs mIoU"] == "**41.0**"
    assert rows["REIN", "DOFA"]["Avg. mAcc"] == "**51.0**"
    assert rows["LoRA (rank=4)", "DINOv3"]["flair_cr mIoU"] == "–"
    assert rows["LoRA (rank=4)", "DINOv3"]["Avg. mIoU"] == "–"
    assert r"ranks \& REIN" in (made.folder / "test" / "tables" / "ranks" / "ranks.tex").read_text()


def latex_rows(text: str) -> Iterator[list[str]]:
    """The cells of every row between the rules, a spanning one as often as it is wide."""
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    for line in body.splitlines():
        if line.endswith(r"\\"):
            cells = re.split(r"(?<!\\)&", line.removesuffix(r"\\"))
            widths = [re.match(r"\s*\\multicolumn\{(\d+)\}", cell) for cell in cells]
            yield [
                cell for cell, width in zip(cells, widths, strict=True) for _ in range(int(width[1]) if width else 1)
            ]


def test_latex_is_whole(program: Program, made: Results) -> None:
    for trial in trials("all", tasks=["fbp_cs"], backbones=["dinov3"]):
        made.add(trial, 40)
    build(program, made.folder, "all", "--published")
    folder = made.folder / "test" / "tables" / "all"
    names = re.findall(r"\\input\{(.*?)\}", (folder / "document.tex").read_text())
    assert names == [*(f"table{n}" for n in range(1, 8)), "fig5", "fig8"]
    for name in names:
        text = (folder / f"{name}.tex").read_text()
        assert text.isascii(), "no sign that LaTeX may not know"
        (alignment,) = re.findall(r"\\begin\{tabular\}\{(l+r+)\}", text)
        assert {len(row) for row in latex_rows(text)} == {len(alignment)}, name
        for environment in ("table", "tabular", "minipage"):
            assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1
        plain = re.sub(r"\\[{}]", "", text)
        assert plain.count("{") == plain.count("}")
        assert not re.search(r"(?<!\\)[#_]|(?<!\\)%(?! needs)", re.sub(r"\\label\{.*?\}", "", text))
    second = (folder / "table2.tex").read_text()
    assert r"\cmidrule(lr)" in second
    assert r"\textsuperscript{a,e}" in second


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX here")
def test_the_document_compiles(program: Program, made: Results, tmp_path: Path) -> None:
    for trial in trials("all", tasks=["fbp_cs"], backbones=["dinov3"], seeds=2):
        made.add(trial, 40)
    build(program, made.folder, "all", "--published")
    folder = shutil.copytree(made.folder / "test" / "tables" / "all", tmp_path / "tex")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:]


def test_a_table_of_shifted_scenes_is_built_again(program: Program, made: Results) -> None:
    asked: dict[str, Any] = {"backbones": ["clip"], "methods": ["frozen"], "tasks": ["fbp_cs"]}
    for severity, parts, miou in ((0.5, INGREDIENTS, 44), (1.0, INGREDIENTS[:1], 45), (1.0, INGREDIENTS, 40)):
        made.add(*trials("table1", **asked, shift=Shift(severity=severity, ingredients=parts)), miou)
    # every trial is there: the run trains nothing and writes its table
    narrowed = ("--backbone", "clip", "--method", "frozen", "--task", "fbp_cs", "--seeds", 1)
    where = ("--suite", "table1", "--scale", "test", "--results", made.folder)
    ran = program(*where, *narrowed, "--severity", 0.5)
    assert ran.exit_code == 0, ran
    assert "1 cached, 0 to run" in ran.text
    before = contents(made.folder / "test" / "tables" / "table1")
    shutil.rmtree(made.folder / "test" / "tables")
    build(program, made.folder, "table1", "--severity", 0.5)
    assert contents(made.folder / "test" / "tables" / "table1") == before
    build(program, made.folder, "table1", "--ingredients", INGREDIENTS[0])
    build(program, made.folder, "table1")
    shown = {
        path.stem: rows_of(made.folder, "table1", path.stem)[0]["Cross-sensor"]
        for path in (made.folder / "test" / "tables" / "table1").glob("*.md")
    }
    assert shown == {
        "table1-severity0.5": "44.0",
        f"table1-ingredients{INGREDIENTS[0]}": "45.0",
        "table1": "40.0",
    }


def test_what_a_run_adds_to_a_suite_has_its_place_when_built_again(program: Program, made: Results) -> None:
    made.add(*trials("fair", tasks=["oem_cc"], backbones=["clip"], methods=["lora"]), 41)
    shown = []
    for more in ((), ("--task", "oem_cc", "--backbone", "clip")):
        build(program, made.folder, "fair", *more)
        (row,) = [r for r in rows_of(made.folder, "fair") if (r["Group"], r["Method"]) == ("CLIP", "LoRA")]
        shown.append(row["oem_cc"])
    assert shown == ["–", "41.0"], "at this size of encoders the suite itself has no such entry"


WRONG = {
    "selection": (("--suite", "table1", "--selection", "best"), ("--selection best", "source_val")),
    "suite": (("--suite", "tabel1"), ("unknown suite 'tabel1'", "did you mean 'table1'")),
    "no table": (("--suite", "smoke"), ("smoke", "no table of its own")),
    "no suite": (("--published",), ("--published", "--suite NAME")),
    "no suite's shift": (("--severity", 0.5, "--task", "fbp_cs"), ("--task, --severity", "--suite NAME")),
    "no suite's parts": (("--ingredients", "haze", "--backbone", "sam"), ("--backbone, --ingredients", "--suite NAME")),
    "severity": (("--suite", "table1", "--severity", 2), ("severity 2",)),
    "task": (("--suite", "table1", "--task", "fbp_sc"), ("fbp_sc", "did you mean 'fbp_cs'")),
    "place": (("--suite", "table1", "--method", "rien"), ("rien", "did you mean 'rein'")),
}


@pytest.mark.parametrize(("args", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_named(
    program: Program, smoke_results: Path, args: tuple[object, ...], words: tuple[str, ...]
) -> None:
    assert_refused(program("tables", *args, "--scale", "test", "--results", smoke_results), *words)
    assert not (smoke_results / "test" / "tables" / "table1").exists()


def test_tables_of_a_suite_need_records(program: Program, tmp_path: Path) -> None:
    assert_refused(program("tables", "--suite", "table1", "--results", tmp_path), "no records", "run a suite first")
