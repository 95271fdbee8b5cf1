"""Several tasks of which one has defective data: it is skipped with the reason, the others run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.catalogue import FBP_CS, TASKS
from benchmarks.datasets.fbp import open_fbp
from benchmarks.tasks import Reader
from tests.conftest import TINY, Program, assert_refused, bodies, snapshot
from tests.fbp_files import Written, write_fbp

ONE = ("--suite", "all", "--method", "frozen", "--backbone", "dinov3", "--seeds", 1, *TINY[2:], "--task", "second")
SUITE = (*ONE, "--task", "fbp_cs")


def open_second(root: Path) -> Reader:
    """The second task's tiles."""
    return open_fbp(root / "second")


@pytest.fixture
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Written]:
    """Two tasks on files below one data root; the tiles of the second, to be spoiled."""
    assert FBP_CS.files
    supply = replace(FBP_CS.files, opener="tests.test_skipped:open_second", title="second")
    monkeypatch.setitem(TASKS, "second", replace(FBP_CS, name="second", embedded=None, files=supply))
    write_fbp(tmp_path / "data", scenes=2)
    return write_fbp(tmp_path / "data" / "second", scenes=2, seed=1)


def statuses(results: Path) -> dict[str, str]:
    """Status of the records by task."""
    return {body["result"]["inputs"]["task"]: body["status"] for body in bodies(results).values()}


@pytest.mark.parametrize("defect", ["a file", "the folder"])
def test_the_defective_task_is_skipped_and_the_other_runs(
    program: Program, second: dict[str, Written], tmp_path: Path, defect: str
) -> None:
    tile = next(iter(second.values()))
    whole = tile.image_path.read_bytes()
    if defect == "a file":  # found only by reading it
        tile.image_path.write_bytes(whole[:-1000])
    else:  # found by listing
        tile.image_path.unlink()
    args = (*SUITE, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    result = program(*args)
    assert result.exit_code == 2, result
    assert "Traceback" not in result.out + result.err
    (line,) = [line for line in result.out.splitlines() if line.startswith("skipped ")]
    assert line.startswith("skipped second: ")
    reason = {"a file": (str(tile.image_path), "truncated"), "the folder": ("labels without an image",)}[defect]
    assert all(word in line for word in reason)
    assert statuses(tmp_path / "results") == {"fbp_cs": "done"}
    (table,) = (tmp_path / "results" / "test" / "tables").glob("*.md")
    assert table.name.startswith("fbp_cs-")
    counted = "trials: 1 done, 1 skipped" if defect == "a file" else "trials: 1 done"
    assert counted in result.text

    again = program(*args)
    assert again.exit_code == 2, "what is missing is still missing"
    assert "skipped second: " in again.text
    before = snapshot(tmp_path / "results" / "test" / "records")
    tile.image_path.write_bytes(whole)
    mended = program(*args)
    assert mended.exit_code == 0, mended
    assert "1 cached, 1 to run" in mended.text
    assert statuses(tmp_path / "results") == {"fbp_cs": "done", "second": "done"}
    after = snapshot(tmp_path / "results" / "test" / "records")
    assert {name: after[name] for name in before} == before


def test_the_plan_shows_the_defect_and_the_other_task(
    program: Program, second: dict[str, Written], tmp_path: Path
) -> None:
    next(iter(second.values())).image_path.unlink()
    result = program("plan", *SUITE, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    assert "skipped second: " in result.text
    assert "labels without an image" in result.text
    assert "1 trial of 2 steps each, 0 cached, 1 to run" in result.text
    assert not (tmp_path / "results").exists()


def test_a_task_that_has_no_files_is_skipped_without_blame(
    program: Program, second: dict[str, Written], tmp_path: Path
) -> None:
    """The second task has no scenes to render, and nobody asked for its data."""
    result = program(*SUITE, "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    assert "skipped second: task second needs real data at scale test: give --data-root DIR" in result.text
    assert statuses(tmp_path / "results") == {"fbp_cs": "done"}


def test_data_that_nobody_has_are_skipped_without_blame_unless_named(program: Program, tmp_path: Path) -> None:
    """One data set of several in the data root."""
    write_fbp(tmp_path / "data")
    everything = ("--suite", "all", "--method", "frozen", "--backbone", "dinov3", "--seeds", 1, *TINY[2:])
    where = ("--data-root", tmp_path / "data", "--results", tmp_path / "results")
    result = program(*everything, *where)
    assert result.exit_code == 0, result
    assert f"skipped loveda_r2u: {tmp_path / 'data' / 'loveda_r2u'} does not exist" in result.text
    assert statuses(tmp_path / "results") == {"fbp_cs": "done"}
    named = program(*everything, "--task", "fbp_cs", "--task", "loveda_r2u", *where)
    assert named.exit_code == 2, named
    assert "skipped loveda_r2u" in named.text


def test_only_defective_data_is_refused(program: Program, second: dict[str, Written], tmp_path: Path) -> None:
    path = next(iter(second.values())).image_path
    path.write_bytes(path.read_bytes()[:-1000])
    results = tmp_path / "results"
    assert_refused(program(*ONE, "--data-root", tmp_path / "data", "--results", results), path.name)
    assert not bodies(results)
