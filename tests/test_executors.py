"""One after the other or side by side, in any order: the same results, the same tables, bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import driver
from harness.cluster import run_ray
from harness.records import RecordStore
from harness.schedule import Resources, run_local
from tests import stubs
from tests.conftest import SMOKE, TINY, Program, bodies, contents, outcomes, snapshot
from tests.stubs import Notes, starts, stub_trials, stubbed

RAY = (*SMOKE, "--executor", "ray")


def assert_same(results: Path, reference: Path) -> None:
    """The same `result` parts and arrays, and the same tables."""
    assert outcomes(results) == outcomes(reference)
    assert contents(results / "test" / "tables") == contents(reference / "test" / "tables")


@pytest.mark.slow
def test_one_worker_gives_the_numbers_of_the_local_executor(
    program: Program, smoke_results: Path, tmp_path: Path
) -> None:
    result = program(*RAY, "--workers", 1, "--cpus-per-trial", 2, "--results", tmp_path)
    assert result.exit_code == 0, result
    assert "trials: 4 done" in result.text
    assert_same(tmp_path, smoke_results)
    assert len({body["run"]["process"] for body in bodies(tmp_path).values()}) == 1
    before = snapshot(tmp_path)
    local = program(*SMOKE, "--executor", "local", "--results", tmp_path)
    assert "4 cached, 0 to run" in local.text, "executors share their records"
    after = snapshot(tmp_path / "test" / "records")
    assert after == {name.partition("records/")[2]: before[name] for name in before if "/records/" in name}


@pytest.mark.slow
def test_two_workers_and_another_order_give_them_too(
    program: Program, cluster: str, smoke_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(driver.EXECUTORS, "ray", lambda trials, *rest: run_ray(trials[::-1], *rest))
    result = program(*RAY, "--workers", 2, "--address", cluster, "--results", tmp_path)
    assert result.exit_code == 0, result
    assert "trials: 4 done" in result.text
    assert_same(tmp_path, smoke_results)
    assert len({body["run"]["process"] for body in bodies(tmp_path).values()}) == 2


def test_a_trial_that_hangs_is_overdue_in_the_local_executor_too(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stub does not catch what the alarm raises, as a real trial does."""
    monkeypatch.setitem(driver.EXECUTORS, "local", stubbed(run_local, "hanging", tmp_path))
    args = (*TINY[:4], "--method", "frozen", "--seeds", 3, "--results", tmp_path / "results")
    result = program(*args, "--timeout", 0.5)
    assert result.exit_code == 1, result
    assert "trials: 2 done, 1 failed" in result.text
    assert "TimeoutError: not finished after --timeout 0.5 s: raise it, or mend what hangs" in result.text
    assert [starts(tmp_path, seed) for seed in range(3)] == [1, 1, 1]
    errors = {body["result"]["inputs"]["seed"]: body["error"] for body in bodies(tmp_path / "results").values()}
    assert {seed for seed, error in errors.items() if error} == {1}


def test_the_local_executor_tells_its_watcher_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stubs, "PAUSE", 0.0)
    notes, store = Notes(), RecordStore(tmp_path / "records")
    run_local(stub_trials(2, tmp_path), store, notes, Resources(), work="tests.stubs:stepping")
    told = [(event, trial.seed) for event, trial in notes.events]
    assert told == [(event, seed) for seed in range(2) for event in ("started", *["stepped"] * 3, "ended")]
    assert notes.steps == [(1, 3), (2, 3), (3, 3)] * 2


def test_the_time_of_a_first_run_is_the_estimate_of_the_next(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stubs, "PAUSE", 0.2)
    monkeypatch.setitem(driver.EXECUTORS, "local", stubbed(run_local, "stepping", tmp_path))
    args = (*TINY[:4], "--method", "frozen", "--results", tmp_path / "results")
    plan = ("plan", *args)
    assert "time unknown before a first run" in program(*plan).text
    assert program(*args).exit_code == 0
    assert "1 cached, 0 to run" in program(*plan).text
    (body,) = bodies(tmp_path / "results").values()
    more = program(*plan, "--seeds", 3)
    assert f"1 cached, 2 to run, about {2 * body['run']['seconds']:.0f} s" in more.text
    assert more.text.count("planned") == 2
    assert more.text.count("cached") == 2
