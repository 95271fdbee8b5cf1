"""MLflow shows the tables of tasks and of suites as they lie in the results folder, and the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from harness.markdown import from_markdown, to_markdown
from harness.records import Record
from harness.tracking import Tracker
from tests.conftest import Program, contents
from tests.tracking.view import artifact, client, run_ids, runs, tables_of, write

RANKS = """
name: ranks
title: LoRA of a file
seeds: 1
cells: [{task: fbp_cs, backbone: dinov3, method: [frozen, lora]}]
table: {rows: method, columns: task}
"""


@pytest.fixture
def results(smoke_results: Path, folder: Path, program: Program, tmp_path: Path) -> Path:
    """The smoke run's records with the tables of a built-in suite and of one from a file."""
    shutil.copytree(smoke_results / "test" / "records", folder / "records")
    (tmp_path / "ranks.yaml").write_text(RANKS)
    for suite in ("table3", tmp_path / "ranks.yaml"):
        made = program("tables", "--suite", suite, "--scale", "test", "--results", folder.parent)
        assert made.exit_code == 0, made
    return folder.parent


def tagged(folder: Path, name: str) -> dict[str, str]:
    """The tags of the one run of this name."""
    (run,) = runs(folder, f"tags.`mlflow.runName` = '{name}'")
    return dict(run.data.tags)


def test_track_shows_the_tables_of_every_suite_as_they_lie(program: Program, results: Path, tmp_path: Path) -> None:
    folder = results / "test"
    track = ("track", "--scale", "test", "--results", results)
    (folder / "report.html").write_text("<p>report")
    before = contents(folder / "tables")
    said = program(*track)
    assert said.exit_code == 0, said
    assert f"1 table(s) as they lie in {folder}/tables/ranks" in said.text
    assert "MLflow shows 4 trials, 1 table(s) of tasks, those of 2 suite(s)" in said.text
    after = contents(folder / "tables")
    assert {name: after[name] for name in before} == before, "what a suite has is not built anew"

    shown = run_ids(folder)
    assert {"tables", "tables · table3", "tables · ranks"} < set(shown)
    for suite in ("table3", "ranks"):
        assert tagged(folder, f"tables · {suite}")["mlflow.parentRunId"] == shown["tables"]
        run = client(folder).get_run(shown[f"tables · {suite}"])
        assert run.info.status == "FINISHED"
        files = {suffix: artifact(folder, run, f"files/{suite}.{suffix}") for suffix in ("md", "tex", "csv")}
        assert files == {suffix: after[f"{suite}/{suite}.{suffix}"] for suffix in files}
    table = json.loads(artifact(folder, client(folder).get_run(shown["tables · ranks"]), "ranks.json"))
    lines = [line for line in after["ranks/ranks.md"].decode().splitlines() if line.startswith("|")]
    assert len(table["data"]) == len(lines) - 2 == 2
    assert table["columns"] == [name.strip() for name in lines[0].strip("|").split("|")]
    for line, row in zip(lines[2:], table["data"], strict=True):
        assert row == [cell.strip().strip("*") for cell in line.strip("|").split("|")]
    assert "**" in lines[2] + lines[3]
    page = artifact(folder, client(folder).get_run(shown["tables"]), "report.html")
    assert page == b"<p>report"

    assert program(*track).exit_code == 0
    assert run_ids(folder) == shown, "nothing is written twice"
    shutil.rmtree(folder / "tables" / "ranks")
    assert program(*track).exit_code == 0
    assert set(shown) - set(run_ids(folder)) == {"tables · ranks"}


def test_a_run_shows_what_track_shows(results: Path, records: list[Record]) -> None:
    folder = results / "test"
    tables, paths = tables_of(records, folder)
    with Tracker(folder, "test") as tracker:
        for record in records:
            tracker.record(record)
        tracker.tables(tables, paths)
    before = run_ids(folder)
    assert {"tables", "tables · table3", "tables · ranks"} < set(before)
    write(folder, records, (tables, paths))
    assert run_ids(folder) == before


def test_tables_of_suites_stay_below_those_of_tasks_when_these_change(results: Path, records: list[Record]) -> None:
    folder = results / "test"
    write(folder, [], tables_of(records, folder))
    before = run_ids(folder)
    write(folder, [], tables_of(records[1:], folder))
    after = run_ids(folder)
    assert {name for name in before if after[name] != before[name]} == {"tables"}
    for suite in ("table3", "ranks"):
        assert tagged(folder, f"tables · {suite}")["mlflow.parentRunId"] == after["tables"]


def test_what_is_no_table_of_ours_is_shown_as_a_file(
    results: Path, records: list[Record], caplog: pytest.LogCaptureFixture
) -> None:
    folder = results / "test"
    edited = folder / "tables" / "ranks" / "ranks.md"
    edited.write_text("# by hand\n\n| a |\n|---|\n| 1 | 2 |\n")
    (edited.parent / "notes.md").write_text("no files beside it")
    write(folder, [], tables_of(records, folder))
    assert f"{edited} cannot be read" in caplog.text
    run = client(folder).get_run(run_ids(folder)["tables · ranks"])
    assert artifact(folder, run, "files/ranks.md") == edited.read_bytes()
    assert [found.path for found in client(folder).list_artifacts(run.info.run_id)] == ["files"]


def test_a_table_of_any_texts_is_read_back() -> None:
    table = pd.DataFrame([["a|b", "–"], ["", "1.0 [0.5, 1.5]"]], columns=["Method | of", "mIoU"], dtype=str)
    assert from_markdown(f"# x\n\n{to_markdown(table, 1)}\n\nbelow\n").equals(table)
    with pytest.raises(ValueError, match="no table"):
        from_markdown("# x\n\nnothing\n")
