"""What every test shares: one thread and no network, the program in this process, one finished smoke run."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
# no test depends on the weights that lie on somebody's machine
os.environ["HF_HOME"] = "/nonexistent"
os.environ.pop("HF_HUB_CACHE", None)
os.environ.pop("DGSS_BENCH_WEIGHTS", None)
os.environ["OMP_NUM_THREADS"] = "1"
# most tests are about other things; those of the engine ask for it by option
os.environ["DGSS_BENCH_EXECUTOR"] = "local"
os.environ["DGSS_BENCH_MLFLOW"] = "0"
# test processes inherit a width, and a console that finds one when it is made keeps to it
os.environ.pop("COLUMNS", None)

ROOT = Path(__file__).parents[1]
SMOKE = ("--suite", "smoke", "--scale", "test")
TINY = (*SMOKE, "--set", "protocol.steps=2", "--set", "protocol.evaluations=1")
"""The smallest trial there is: two steps, one evaluation."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run of the program ended, and what it wrote."""

    exit_code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All of it on one line, because the terminal's width breaks long messages."""
        return " ".join(f"{self.out} {self.err}".split())


Program = Callable[..., Result]


def run_program(*args: object) -> Result:
    """`python run.py ARGS` without a new process: the same entry point, exit codes as Python would give them."""
    from harness.cli import run

    out, err, handlers = io.StringIO(), io.StringIO(), logging.root.handlers[:]
    argv = ["run.py", *map(str, args)]
    exit_code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.object(sys, "argv", argv):
        try:
            run()
        except SystemExit as end:
            exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except (Exception, KeyboardInterrupt):
            traceback.print_exc()
            exit_code = 1
        finally:
            logging.root.handlers[:] = handlers
    return Result(exit_code=exit_code, out=out.getvalue(), err=err.getvalue())


def run_process(*args: object, code: str = "") -> Result:
    """`python run.py ARGS`, or `python -c CODE ARGS`, in a process of its own, from the repository's root."""
    start = ["-c", code] if code else ["run.py"]
    command = [sys.executable, *start, *map(str, args)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    return Result(exit_code=ended.returncode, out=ended.stdout, err=ended.stderr)


def assert_refused(result: Result, *words: str) -> None:
    """The user's mistake: exit code 2 and one message on standard error that holds all the words."""
    assert result.exit_code == 2, result
    assert "Traceback" not in result.out + result.err
    messages = result.err.splitlines()
    assert len(messages) == 1, result.err
    assert messages[0].startswith("error: ")
    for word in words:
        assert word in messages[0]


def bodies(results: Path, scale: str = "test") -> dict[str, dict[str, Any]]:
    """Every record's JSON as it lies on the disk, by key."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((results / scale / "records").glob("*.json"))}


def outcomes(results: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    """What must be identical on every rerun: each record's `result` part and array file."""
    folder = results / "test" / "records"
    return {
        key: (body["result"], (folder / f"{key}.safetensors").read_bytes()) for key, body in bodies(results).items()
    }


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and bytes of every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every file below a folder."""
    return {name: data for name, (_, data) in snapshot(folder).items()}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two threads add up in another order; tests that need no torch need not wait for its import either."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def program() -> Program:
    """Runs the program in this process."""
    return run_program


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder."""
    monkeypatch.setenv("DGSS_BENCH_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A results folder in which the smoke suite ran once at scale test, and how that went. Not to be changed."""
    results = tmp_path_factory.mktemp("smoke") / "results"
    return results, run_program(*SMOKE, "--results", results)


@pytest.fixture(scope="session")
def smoke_results(smoke_run: tuple[Path, Result]) -> Path:
    """The folder of `smoke_run`. Not to be changed."""
    return smoke_run[0]


@pytest.fixture
def smoke_copy(smoke_results: Path, tmp_path: Path) -> Path:
    """A copy of `smoke_results` to change."""
    return Path(shutil.copytree(smoke_results, tmp_path / "results"))


@pytest.fixture(scope="session")
def report_results(smoke_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with all that a report has to show. Not to be changed."""
    from tests.report_results import make_results

    return make_results(smoke_results, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster with two cores and two GPUs that exist on paper."""
    from tests.processes import running_cluster

    with running_cluster(cpus=2, gpus=2) as address:
        yield address
