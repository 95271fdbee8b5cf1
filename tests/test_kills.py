"""Ray's workers and their driver killed at any moment: nothing lost, nothing doubled, the same tables."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import driver, schedule
from harness.cluster import run_ray
from tests.conftest import ROOT, SMOKE, Program, bodies, contents, outcomes, snapshot
from tests.processes import PATIENCE, STUBBED, files, start, wait_for, workers
from tests.stubs import stubbed

RAY = (*SMOKE, "--executor", "ray", "--workers", 2)
AT_WORK = """
import sys
from pathlib import Path
from harness.schedule import at_work
with at_work(Path(sys.argv[1])):
    print("at work", flush=True)
    sys.stdin.read()
"""


def done(results: Path) -> set[str]:
    """Keys of the whole records."""
    return {key for key, body in bodies(results).items() if body["status"] == "done"}


def kept(results: Path) -> dict[str, tuple[int, bytes]]:
    """The files of the whole records."""
    keys = done(results)
    found = snapshot(results / "test" / "records") if keys else {}
    return {name: value for name, value in found.items() if name.partition(".")[0] in keys}


def kill_worker(process: subprocess.Popen[str], delay: float, title: str = "ray::carry_out") -> None:
    """Wait for a worker with that title and a moment longer; kill it and see it gone."""
    found: list[int] = []
    wait_for(process, lambda: bool(found.extend(workers(process.pid, title)) or found), pause=0.05)
    time.sleep(delay)
    os.kill(found[-1], signal.SIGKILL)
    wait_for(process, lambda: found[-1] not in workers(process.pid, title), pause=0.05)


def seen(process: subprocess.Popen[str]) -> bool:
    """Whether a worker has a trial."""
    time.sleep(0.05)
    return bool(workers(process.pid))


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_doubled(smoke_results: Path, tmp_path: Path) -> None:
    """Six drivers, the board of one, and four or five workers."""
    reference, chance = outcomes(smoke_results), random.Random(3)
    before: dict[str, tuple[int, bytes]] = {}

    def check() -> None:
        nonlocal before
        now = kept(tmp_path)
        assert {name: now[name] for name in before} == before, "a finished record was touched"
        assert outcomes_of_done(tmp_path) == {key: reference[key] for key in done(tmp_path)}
        before = now

    def kill_driver(happened: Callable[[subprocess.Popen[str], int], bool], delay: float) -> None:
        known = files(tmp_path, ".safetensors")
        with start(tmp_path, "run.py", options=RAY) as process:
            wait_for(process, lambda: happened(process, known))
            time.sleep(delay)
            assert process.poll() is None, process.communicate()
            process.kill()
        check()

    def pending() -> int:
        with schedule.exclusive(tmp_path / "test"):  # leftover workers may finish their trials
            return 4 - len(done(tmp_path))

    kill_driver(lambda *_: True, chance.uniform(0.3, 2.0))  # before Ray starts
    kill_driver(lambda *_: True, chance.uniform(2.0, 5.0))  # while it starts
    kill_driver(lambda process, _: seen(process), chance.uniform(0.0, 2.0))  # while workers import
    with start(tmp_path, "run.py", options=RAY) as process:
        for title in ("carry_out", "Board", "carry_out", "carry_out", "carry_out"):
            kill_worker(process, chance.uniform(0.0, 1.0), f"ray::{title}")
        wait_for(process, lambda: seen(process))
        process.kill()
    check()
    # between the files of a record, and soon after a record
    kill_driver(lambda _, known: files(tmp_path, ".safetensors") > known, 0.0)
    if pending():
        kill_driver(lambda *_: len(kept(tmp_path)) > len(before), chance.uniform(0.0, 0.2))
    left = pending()
    with start(tmp_path, "run.py", options=RAY) as process:
        if left:
            kill_worker(process, chance.uniform(0.0, 1.0))
        out, err = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, (out, err)
    assert f"{4 - left} cached, {left} to run" in out
    assert out.count(" again ") == bool(left)
    assert "corrupt" not in err
    check()
    assert outcomes(tmp_path) == reference
    assert contents(tmp_path / "test" / "tables") == contents(smoke_results / "test" / "tables")
    records = contents(tmp_path / "test" / "records")
    assert set(records) == set(contents(smoke_results / "test" / "records")), "remains of the killed runs"


def outcomes_of_done(results: Path) -> dict[str, tuple[dict[str, object], bytes]]:
    """`outcomes` without records of trials whose workers were killed twice."""
    folder = results / "test" / "records"
    return {
        key: (body["result"], (folder / f"{key}.safetensors").read_bytes())
        for key, body in bodies(results).items()
        if body["status"] == "done"
    }


@pytest.fixture
def leftover(smoke_copy: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker of a driver that is gone, still at work in `smoke_copy`."""
    command = [sys.executable, "-c", AT_WORK, str(smoke_copy / "test")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "at work\n"
        yield process
        process.kill()


def test_leftover_workers_are_waited_for(
    program: Program, smoke_copy: Path, leftover: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:  # killed, so that nothing but the end of its process gives the folder free
            leftover.kill()
            leftover.wait()

    monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=pause))
    result = program(*SMOKE, "--results", smoke_copy)
    assert result.exit_code == 0, result
    assert len(pauses) == 3
    assert result.text.count("waiting for the workers of an earlier run") == 1
    assert "4 cached, 0 to run" in result.text


def test_leftover_workers_that_do_not_end_are_named(
    program: Program, smoke_copy: Path, leftover: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "LEFTOVER_SECONDS", 0.2)
    before = snapshot(smoke_copy / "test" / "records")
    result = program(*SMOKE, "--fresh", "--results", smoke_copy)
    assert result.exit_code == 2, result
    assert "Traceback" not in result.err
    assert f"workers of an earlier run still use {smoke_copy / 'test'}" in result.text
    assert "--results DIR" in result.text
    assert snapshot(smoke_copy / "test" / "records") == before


def test_readers_do_not_wait_for_leftover_workers(
    program: Program, smoke_copy: Path, leftover: subprocess.Popen[str]
) -> None:
    where = ("--scale", "test", "--results", smoke_copy)
    for command in (("plan", "--suite", "smoke"), ("tables",)):
        result = program(*command, *where)
        assert result.exit_code == 0, result
        assert "waiting" not in result.text


@pytest.mark.slow
def test_started_again_at_once_after_a_kill_on_a_cluster_that_lives_on(
    program: Program, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the workers outlive their driver for a moment."""
    results = tmp_path / "results"
    options = (*SMOKE, "--method", "frozen", "--seeds", 3, "--executor", "ray", "--address", cluster)
    with start(results, "-c", STUBBED, "endless", tmp_path, options=options) as process:
        wait_for(process, lambda: files(results, ".json") == 1 and (tmp_path / "1.starts").exists())
        process.kill()
    before = kept(results)
    assert len(before) == 2
    monkeypatch.setitem(driver.EXECUTORS, "ray", stubbed(run_ray, "probe", tmp_path))
    result = program(*options, "--results", results)
    assert result.exit_code == 0, result
    assert "1 cached, 2 to run" in result.text
    assert len(done(results)) == 3
    after = kept(results)
    assert {name: after[name] for name in before} == before
