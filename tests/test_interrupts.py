"""Ctrl-C and SIGTERM: whole records only, the tables of what is done, and a word on how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import driver
from harness.schedule import run_local
from tests.conftest import TINY, Program, bodies, snapshot
from tests.processes import PATIENCE, STUBBED, files, start, wait_for, workers
from tests.stubs import stubbed

SUITE = (*TINY[:4], "--method", "frozen", "--seeds", 3)


def to_all(process: subprocess.Popen[str]) -> None:
    """What a terminal does: everything in the foreground gets the signal."""
    os.killpg(process.pid, signal.SIGINT)


def to_it(process: subprocess.Popen[str]) -> None:
    """What a batch system does."""
    process.terminate()


def begin(work: str, tmp_path: Path, *options: object) -> subprocess.Popen[str]:
    """Start three stub trials and wait until the first is done and the second in the middle."""
    start_by = ("-c", STUBBED, work, tmp_path)
    process = start(tmp_path / "results", *start_by, options=(*SUITE, *options))
    wait_for(process, lambda: files(tmp_path / "results", ".json") == 1 and (tmp_path / "1.starts").exists())
    return process


def assert_interrupted(process: subprocess.Popen[str], results: Path) -> str:
    """It ends in order: returns what it printed."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in out + err
    assert err.splitlines() == ["error: interrupted: finished trials are kept; the same command goes on from here"]
    (body,) = bodies(results).values()
    assert (body["status"], body["result"]["inputs"]["seed"]) == ("done", 0)
    names = {path.name for path in (results / "test" / "records").iterdir()}
    assert names == {f"{body['key']}.json", f"{body['key']}.safetensors"}
    return out


@pytest.mark.parametrize("send", [to_all, to_it])
@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_an_interrupt_keeps_whole_records_writes_the_tables_and_can_go_on(
    program: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    send: Callable[[subprocess.Popen[str]], None],
) -> None:
    results = tmp_path / "results"
    with begin("endless", tmp_path, "--executor", executor, "--workers", 1) as process:
        send(process)
        out = assert_interrupted(process, results)
    assert "trials: 1 planned, 1 done, 1 interrupted" in out
    assert " interrupted  " in out
    (table,) = (results / "test" / "tables").glob("*.md")
    assert "Frozen" in table.read_text()
    before = snapshot(results / "test" / "records")
    monkeypatch.setitem(driver.EXECUTORS, "local", stubbed(run_local, "probe", tmp_path))
    again = program(*SUITE, "--results", results)
    assert again.exit_code == 0, again
    assert "1 cached, 2 to run" in again.text
    after = snapshot(results / "test" / "records")
    assert {name: after[name] for name in before} == before


def test_an_interrupt_in_a_callback_that_swallows_it_is_heard_and_prints_no_traceback(tmp_path: Path) -> None:
    start_by = ("-c", STUBBED, "unheard", tmp_path)
    with start(tmp_path / "results", *start_by, options=(*SUITE, "--executor", "local")) as process:
        assert_interrupted(process, tmp_path / "results")


@pytest.mark.slow
def test_ctrl_c_ends_what_does_not_listen_too(tmp_path: Path) -> None:
    with begin("stubborn", tmp_path, "--executor", "ray", "--workers", 1) as process:
        (worker,) = workers(process.pid)
        to_all(process)
        assert_interrupted(process, tmp_path / "results")
    assert not Path(f"/proc/{worker}").exists()
