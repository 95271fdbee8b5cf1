"""Killed, interrupted, in pieces or in another order: the same records, the same tables."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMOKE, Program, bodies, contents, outcomes, run_process, snapshot
from tests.processes import INTERRUPTIBLE, files, start, wait_for


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_doubled(smoke_results: Path, tmp_path: Path) -> None:
    reference = outcomes(smoke_results)
    chance = random.Random(2)
    moments: dict[str, tuple[Callable[[], bool], float]] = {
        "while starting": (lambda: True, chance.uniform(0.3, 2.0)),
        "when the first record is there": (lambda: files(tmp_path, ".json") == 1, 0.0),
        "between the files of the second": (lambda: files(tmp_path, ".safetensors") >= 4, 0.0),
        "in the middle of the fourth trial": (lambda: files(tmp_path, ".json") == 3, chance.uniform(0.05, 0.2)),
    }
    kept: dict[str, tuple[int, bytes]] = {}
    for happened, delay in moments.values():
        with start(tmp_path, "run.py") as process:
            wait_for(process, happened)
            time.sleep(delay)
            assert process.poll() is None, "too late to kill it"
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        whole = {f"{key}.json" for key in bodies(tmp_path)}
        records = snapshot(tmp_path / "test" / "records") if whole else {}
        assert {name: records[name] for name in kept} == kept, "a finished record was touched"
        kept = {name: value for name, value in records.items() if f"{name[:16]}.json" in whole and name[0] != "."}
        assert {key: reference[key] for key in outcomes(tmp_path)} == outcomes(tmp_path)
    assert len(kept) == 4 * 3
    result = run_process(*SMOKE, "--results", tmp_path)
    assert result.exit_code == 0, result
    assert "3 cached, 1 to run" in result.text
    assert "corrupt" not in result.text
    assert outcomes(tmp_path) == reference
    assert contents(tmp_path / "test" / "tables") == contents(smoke_results / "test" / "tables")
    left = snapshot(tmp_path / "test" / "records")
    assert {name: left[name] for name in kept} == kept
    assert set(left) == set(contents(smoke_results / "test" / "records")), "remains of the killed runs"


@pytest.mark.slow
def test_ctrl_c_ends_in_one_message_and_130(smoke_results: Path, tmp_path: Path) -> None:
    with start(tmp_path, "-c", INTERRUPTIBLE) as process:
        wait_for(process, lambda: files(tmp_path, ".json") == 1)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "the same command" in err
    found = outcomes(tmp_path)
    assert 1 <= len(found) < 4
    assert {key: outcomes(smoke_results)[key] for key in found} == found


def test_order_and_company_change_nothing(program: Program, smoke_results: Path, tmp_path: Path) -> None:
    for names in (("spectralmoe",), ("rein", "frozen"), ("lora",)):
        chosen = [word for name in names for word in ("--method", name)]
        assert program(*SMOKE, *chosen, "--results", tmp_path).exit_code == 0
    assert outcomes(tmp_path) == outcomes(smoke_results)
    assert program(*SMOKE, "--results", tmp_path).text.count("4 cached, 0 to run") == 1
    assert contents(tmp_path / "test" / "tables") == contents(smoke_results / "test" / "tables")


@pytest.mark.slow
def test_a_process_of_its_own_and_more_threads_change_nothing(smoke_results: Path, tmp_path: Path) -> None:
    reference = outcomes(smoke_results)
    command = [sys.executable, str(ROOT / "run.py"), *SMOKE, "--method", "spectralmoe", "--results", "here"]
    threads = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    subprocess.run(command, cwd=tmp_path, env=threads, check=True, capture_output=True, timeout=120)
    ((key, found),) = outcomes(tmp_path / "here").items()
    assert found == reference[key]
