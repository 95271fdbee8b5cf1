"""Ray's side of the engine: resources, processes, addresses, progress, and who writes a record."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness import connection, driver
from harness.cluster import run_ray
from harness.records import Record, RecordStore
from harness.schedule import Outcome, Resources, run_local
from harness.status import Status
from tests.conftest import SMOKE, TINY, Program, assert_refused, bodies, outcomes, snapshot
from tests.stubs import Notes, stub_trials, stubbed

RAY = ("--executor", "ray")


def run_stubs(folder: Path, work: str, number: int, watcher: Notes, resources: Resources) -> list[Outcome]:
    """Run stub trials on a cluster; records go below the folder."""
    store = RecordStore(folder / "records")
    store.prepare()
    return run_ray(stub_trials(number, folder), store, watcher, resources, work=f"tests.stubs:{work}")


def facts(ended: list[Outcome], name: str) -> list[object]:
    """What the probe found in each trial."""
    return [outcome.record.run[name] for outcome in ended if outcome.record]


class Counted(RecordStore):
    """A store that knows what this process wrote."""

    wrote = 0

    def write(self, record: Record) -> None:
        """Write and count."""
        self.wrote += 1
        super().write(record)


def test_on_cpu_few_processes_serve_many_trials_see_no_gpu_and_write_their_records(
    cluster: str, tmp_path: Path
) -> None:
    store = Counted(tmp_path / "records")
    store.prepare()
    resources = Resources(cpus=1, gpus=0, address=cluster)
    ended = run_ray(stub_trials(12, tmp_path), store, Notes(), resources, work="tests.stubs:probe")
    assert {outcome.status for outcome in ended} == {Status.DONE}
    assert len(list(store)) == 12
    assert store.wrote == 0
    assert 1 <= len(set(facts(ended, "pid"))) <= 2
    assert set(facts(ended, "gpu")) == {False}
    assert set(facts(ended, "torch")) == {False}, "the harness around a trial needs no torch"


@pytest.mark.slow
def test_on_a_gpu_every_trial_has_a_process_of_its_own_and_sees_one_gpu(cluster: str, tmp_path: Path) -> None:
    ended = run_stubs(tmp_path, "probe", 4, Notes(), Resources(cpus=1, gpus=0.5, address=cluster))
    assert {outcome.status for outcome in ended} == {Status.DONE}
    assert len(set(facts(ended, "pid"))) == 4
    assert set(facts(ended, "gpu")) == {True}
    assert set(facts(ended, "visible")) <= {"0", "1"}


def test_slots_are_what_cores_and_gpus_allow() -> None:
    from harness.connection import _fitting

    machine = {"CPU": 16.0, "GPU": 2.0}
    fit = {(1, 0.5): 4, (1, 0.3): 6, (1, 1.0): 2, (1, 2.0): 1, (1, 3.0): 0, (8, 0.5): 2, (17, 0.0): 0, (1, 0.0): 16}
    assert {asked: _fitting(machine, *asked) for asked in fit} == fit
    assert _fitting({"CPU": 4.0}, 1, 0.5) == 0


@pytest.mark.slow
def test_a_trial_whose_gpu_exists_on_paper_runs_on_cpu_and_says_so_once(
    program: Program, cluster: str, smoke_results: Path, tmp_path: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    methods = ("--method", "frozen", "--method", "lora")
    result = program(*SMOKE, *methods, *RAY, "--address", cluster, "--gpus-per-trial", 0.5, "--results", tmp_path)
    assert result.exit_code == 0, result
    assert result.text.count("a trial asked for a GPU, but torch") == 1
    assert "--gpus-per-trial 0" in result.text
    assert len(bodies(tmp_path)) == 2
    assert {body["run"]["device"] for body in bodies(tmp_path).values()} == {"cpu"}
    reference = outcomes(smoke_results)
    assert outcomes(tmp_path) == {key: reference[key] for key in outcomes(tmp_path)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpus-per-trial", 3), ("--gpus-per-trial 3", "2 CPUs and 2 GPUs", "--gpus-per-trial 0 runs on CPU")),
        (("--gpus-per-trial", 0.5, "--workers", 3), ("--workers 3", "enough for 2", "lower --workers")),
        (("--cpus-per-trial", 3), ("--cpus-per-trial 3", "2 CPUs", "ask for less")),
    ],
)
def test_more_than_the_cluster_has_is_refused_before_anything_starts(
    program: Program, cluster: str, tmp_path: Path, options: tuple[object, ...], words: tuple[str, ...]
) -> None:
    assert_refused(program(*SMOKE, *RAY, "--address", cluster, *options, "--results", tmp_path), *words)
    assert not bodies(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpus-per-trial", 1.5), ("--gpus-per-trial 1.5", "whole number")),
        (("--gpus-per-trial", -1), ("--gpus-per-trial -1",)),
        (("--gpus-per-trial", "nan"), ("--gpus-per-trial nan",)),
        (("--timeout", "nan"), ("--timeout nan",)),
        (("--workers", -1), ("--workers -1", "negative")),
        (("--cpus-per-trial", -1), ("--cpus-per-trial -1", "negative")),
        (("--timeout", -1), ("--timeout -1", "negative")),
        (("--max-trials", -1), ("--max-trials -1", "negative")),
        (("--executor", "slurm"), ("unknown executor 'slurm'", "ray, local")),
        (("--executor", "local", "--workers", 2), ("--workers 2", "--executor ray")),
        (("--executor", "local", "--address", "here:1"), ("--address here:1", "--executor ray")),
    ],
)
def test_what_no_executor_can_give_is_refused(
    program: Program, tmp_path: Path, options: tuple[object, ...], words: tuple[str, ...]
) -> None:
    assert_refused(program(*SMOKE, *RAY, *options, "--results", tmp_path), *words)
    assert not bodies(tmp_path)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379", "nonsense", "ray://head:10001", ":", "h:x"])
def test_an_address_where_no_cluster_answers_is_refused(program: Program, smoke_copy: Path, address: str) -> None:
    before = snapshot(smoke_copy / "test" / "records")
    result = program(*SMOKE, *RAY, "--method", "depth_add", "--address", address, "--results", smoke_copy)
    assert_refused(result, f"--address {address}")
    assert snapshot(smoke_copy / "test" / "records") == before


def test_an_address_where_something_else_listens_is_refused(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEALTH_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert_refused(program(*SMOKE, *RAY, "--address", address, "--results", tmp_path), f"--address {address}")
    assert not bodies(tmp_path)


@pytest.mark.slow
def test_without_an_address_no_cluster_of_the_environment_is_taken(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`RAY_ADDRESS` is Ray's own variable; set for other work, it must not disturb ours."""
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    ended = run_stubs(tmp_path, "probe", 1, Notes(), Resources(cpus=1, gpus=0))
    assert [outcome.status for outcome in ended] == [Status.DONE]


def test_trials_run_side_by_side_and_their_progress_comes_in_order(cluster: str, tmp_path: Path) -> None:
    notes = Notes()
    run_stubs(tmp_path, "stepping", 2, notes, Resources(cpus=1, gpus=0, address=cluster))
    for seed in range(2):
        events = [event for event, trial in notes.events if trial.seed == seed]
        assert [events[0], events[-1]] == ["started", "ended"]
        assert set(events[1:-1]) == {"stepped"}
    assert set(notes.steps) == {(1, 3), (2, 3), (3, 3)}
    assert [event for event, _ in notes.events if event != "stepped"] == ["started"] * 2 + ["ended"] * 2


def test_the_driver_writes_where_a_worker_does_not_see_the_folder(cluster: str, tmp_path: Path) -> None:
    store = Counted(tmp_path / "results" / "records")  # not there yet
    resources = Resources(cpus=1, gpus=0, address=cluster)
    (ended,) = run_ray(stub_trials(1, tmp_path), store, Notes(), resources, work="tests.stubs:probe")
    assert ended.status is Status.DONE
    assert [record.key for record in store] == [ended.trial.key]
    assert store.wrote == 1


def test_a_cached_suite_starts_no_cluster(program: Program, smoke_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(driver.EXECUTORS, "ray", lambda *_: pytest.fail("nothing is left to run"))
    assert program(*SMOKE, *RAY, "--results", smoke_copy).exit_code == 0


def test_at_most_so_many_trials_run_now(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(driver.EXECUTORS, "local", stubbed(run_local, "probe", tmp_path))
    args = (*TINY[:4], "--method", "frozen", "--seeds", 3, "--results", tmp_path / "r")
    result = program(*args, "--max-trials", 2)
    assert result.exit_code == 0, result
    assert "trials: 1 planned, 2 done" in result.text
    assert program("plan", *args).text.count(" planned ") == 1
    assert "trials: 2 cached, 1 done" in program(*args, "--max-trials", 2).text
    assert len(bodies(tmp_path / "r")) == 3
