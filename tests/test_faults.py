"""Trials that raise, hang, die or take all memory: each gets its status and its reason, and the others finish."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import cluster as cluster_executor
from harness import driver
from harness.cluster import run_ray
from harness.plan import Request, make_plan
from harness.records import RecordStore
from harness.schedule import Resources
from harness.status import Status
from tests.conftest import TINY, Program, Result, bodies, run_program
from tests.stubs import FATES, Notes, starts, stub_trials, stubbed
from tests.test_failures import METHODS, by_method, filters, write

CRASHED = "WorkerCrashedError: the worker died"
ENDS = {
    "fine": ("done", None),
    "raises": ("failed", "RuntimeError"),
    "hangs": ("failed", "TimeoutError"),
    "dies": ("failed", "WorkerCrashedError"),
    "dies once": ("done", None),
    "fine too": ("done", None),
}

FAULTY = {
    "fine": "    pass",
    "raising": METHODS["raising"],
    "hanging": """
    def refine(self, x_BND, layer, depth_BMD=None):
        __import__("time").sleep(600)
""",
    "nanlate": METHODS["nanlate"],
    "dying": """
    def refine(self, x_BND, layer, depth_BMD=None):
        __import__("os").kill(os.getpid(), 9)
""",
}
TYPES = {"raising": "RuntimeError", "hanging": "TimeoutError", "dying": "WorkerCrashedError"}


@pytest.fixture(scope="module")
def fates(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Path]:
    """A suite of one trial per fate: results folder, how it ended, the stubs' notes."""
    folder, scratch = tmp_path_factory.mktemp("fates"), tmp_path_factory.mktemp("scratch")
    args = ("--suite", "smoke", "--scale", "test", "--method", "frozen", "--seeds", len(FATES), "--results", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(driver.EXECUTORS, "ray", stubbed(run_ray, "fateful", scratch))
        result = run_program(*args, "--executor", "ray", "--address", cluster, "--timeout", 3)
    return folder, result, scratch


def test_every_fate_has_its_status_and_the_others_finish(fates: tuple[Path, Result, Path]) -> None:
    folder, result, _ = fates
    found = {
        FATES[body["result"]["inputs"]["seed"]]: (body["status"], (body["error"] or {}).get("type"))
        for body in bodies(folder).values()
    }
    assert found == ENDS
    assert result.exit_code == 1, result
    assert "Traceback" not in result.out + result.err


def test_only_the_system_is_given_a_second_chance(fates: tuple[Path, Result, Path]) -> None:
    _, result, scratch = fates
    twice = {fate for seed, fate in enumerate(FATES) if starts(scratch, seed) == 2}
    assert twice == {"dies", "dies once"}
    assert sum(starts(scratch, seed) for seed in range(len(FATES))) == len(FATES) + 2
    again = [line for line in result.out.splitlines() if " again " in line]
    assert sorted(re.findall(r"seed (\d)", " ".join(again))) == ["3", "4"]
    assert all("the worker died" in line for line in again)


def test_the_summary_has_one_line_for_each_failure_and_counts_them(fates: tuple[Path, Result, Path]) -> None:
    _, result, _ = fates
    assert "trials: 3 done, 3 failed" in result.text
    lines = [line for line in result.out.splitlines() if line.startswith("failed ")]
    assert len(lines) == 3
    for seed, reason in (
        (1, "RuntimeError: broken on purpose"),
        (2, "TimeoutError: not finished after --timeout 3 s: raise it, or mend what hangs"),
        (3, CRASHED),
    ):
        (line,) = [line for line in lines if f"seed {seed}:" in line]
        assert reason in line
        assert "python run.py show" in line


def test_the_traceback_of_a_raised_error_leads_to_its_place(fates: tuple[Path, Result, Path], program: Program) -> None:
    folder, _, _ = fates
    (key,) = [key for key, body in bodies(folder).items() if (body["error"] or {}).get("type") == "RuntimeError"]
    shown = program("show", key, "--scale", "test", "--results", folder)
    assert "stubs.py" in shown.out
    assert "[bold]and markup[/bold]" in shown.out
    assert "\x1b" not in bodies(folder)[key]["error"]["traceback"], "colours are for terminals"


def test_what_failed_is_planned_again(fates: tuple[Path, Result, Path], program: Program) -> None:
    folder, _, _ = fates
    plan = program("plan", *TINY[:4], "--method", "frozen", "--seeds", len(FATES), "--results", folder)
    assert "3 cached, 3 to run" in plan.text


@pytest.mark.slow
def test_real_trials_fail_alike_in_both_executors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods from a file outside, whose Options classes are made inside a function."""
    file = write(tmp_path / "faulty.py", FAULTY)
    errors = {}
    for executor, left_out in (("ray", ""), ("local", "dying")):  # here it would kill the tests
        names = [name for name in FAULTY if name != left_out]
        results = tmp_path / executor
        result = run_program(
            *TINY, "--results", results, *filters(file, *names), "--executor", executor, "--timeout", 10
        )
        assert result.exit_code == 1, result
        records = by_method(results)
        assert set(records) == set(names)
        assert records["fine"]["status"] == "done"
        assert f"trials: 1 done, {len(names) - 1} failed" in result.text
        assert len(re.findall("^failed ", result.out, re.MULTILINE)) == len(names) - 1
        errors[executor] = {name: record["error"] for name, record in records.items() if name != "fine"}
        assert result.out.count(" again ") == (executor == "ray")
    types = {name: error["type"] for name, error in errors["ray"].items()}
    assert {name: types[name] for name in TYPES} == TYPES
    del errors["ray"]["dying"]
    for name, error in errors["local"].items():
        assert (error["type"], error["message"]) == (types[name], errors["ray"][name]["message"])


def test_a_file_that_changes_after_the_plan_is_a_failed_trial(cluster: str, tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", {"mine": "    pass"})
    request = Request(suite="smoke", scale="test", methods=[f"{file}:Mine"])
    (trial,) = make_plan(request, None).pending
    write(file, {"mine": METHODS["raising"]})
    store, resources = RecordStore(tmp_path / "records"), Resources(cpus=1, gpus=0, address=cluster)
    (outcome,) = run_ray([trial], store, Notes(), resources, work="tests.stubs:probe")
    assert outcome.record
    assert outcome.record.error
    assert outcome.record.error["type"] == "ValueError"
    message = f"method file {file} has changed since the plan was made: run the command again"
    assert outcome.record.error["message"] == message
    (stored,) = store
    assert (stored.key, stored.status) == (trial.key, Status.FAILED)


@pytest.mark.slow
def test_the_limit_of_time_is_not_for_the_imports_of_a_second_worker(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first attempt told of its beginning may arrive after its end."""
    monkeypatch.setattr(cluster_executor, "TICK", 1.0)
    store, resources = RecordStore(tmp_path / "records"), Resources(cpus=1, gpus=0, address=cluster, timeout=2.0)
    store.prepare()
    (outcome,) = run_ray(stub_trials(1, tmp_path), store, Notes(), resources, work="tests.slow_stub:mortal")
    assert outcome.record
    assert (outcome.status, outcome.record.error) == (Status.DONE, None)
    assert starts(tmp_path, 0) == 2


@pytest.mark.slow
def test_a_trial_that_takes_all_memory_fails_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text()))
    total, available = int(meminfo["MemTotal"]), int(meminfo["MemAvailable"])
    if available < 6 * 2**20:
        pytest.skip("less than 6 GiB of memory to play with")
    # "all" is 2 GiB more than is taken now
    monkeypatch.setenv("RAY_memory_usage_threshold", str((total - available + 2 * 2**20) / total))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    trials, notes = stub_trials(3, tmp_path), Notes()
    store = RecordStore(tmp_path / "records")
    store.prepare()
    outcomes = run_ray(trials, store, notes, Resources(cpus=1, gpus=0), work="tests.stubs:hog")
    ends = {outcome.trial.seed: outcome.record for outcome in outcomes}
    assert [ends[seed].status for seed in (1, 2)] == [Status.DONE, Status.DONE]
    error = ends[0].error
    assert error
    assert error["type"] == "OutOfMemoryError"
    assert "memory ran out: fewer --workers" in error["message"]
    assert [starts(tmp_path, seed) for seed in range(3)] == [2, 1, 1]
    assert [(event, trial.seed) for event, trial in notes.events if event == "retried"] == [("retried", 0)]
    assert {record.status for record in store} == {Status.DONE, Status.FAILED}
