"""The program in a process of its own, to be watched and killed; and a small Ray cluster."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT, SMOKE

# a shell that starts the tests in the background makes its children ignore SIGINT
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from harness.cli import run
run()
"""
# the same with a stub's work: its name and its scratch folder come first
STUBBED = """
import signal
import sys
from pathlib import Path
from harness import cluster, driver, schedule
from harness.cli import run
from tests.stubs import stubbed
signal.signal(signal.SIGINT, signal.default_int_handler)
work, scratch = sys.argv[1], Path(sys.argv[2])
del sys.argv[1:3]
driver.EXECUTORS["ray"] = stubbed(cluster.run_ray, work, scratch)
driver.EXECUTORS["local"] = stubbed(schedule.run_local, work, scratch)
run()
"""
PATIENCE = 120.0


def start(results: Path, *start_by: object, options: Sequence[object] = SMOKE) -> subprocess.Popen[str]:
    """A suite in a process of its own, which leads a group as one that a shell starts does."""
    command = [sys.executable, *map(str, (*start_by, *options)), "--results", str(results)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def files(results: Path, suffix: str) -> int:
    """How many files of a kind there are among the records."""
    return len(list((results / "test" / "records").glob(f"*{suffix}")))


def wait_for(process: subprocess.Popen[str], happened: Callable[[], bool], pause: float = 0.0005) -> None:
    """Look nearly without a pause, because a window between two files is milliseconds wide."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(pause)


def workers(driver: int, title: str = "ray::carry_out") -> list[int]:
    """Process ids of a driver's workers that bear a title: `carry_out` has a trial, `Board` is the board."""
    parents: dict[int, int] = {}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_text().startswith(title):
                found.append(int(folder.name))
        except OSError:
            continue  # it ended while we looked
    return [worker for worker in found if parents.get(parents[worker]) == driver]


@contextmanager
def running_cluster(cpus: int, gpus: int) -> Iterator[str]:
    """A Ray cluster of one machine, with GPUs that exist on paper; yields its address."""
    # its notes must not be found by a driver that looks for a cluster, and sockets need short paths
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    amounts = ["--num-cpus", cpus, "--num-gpus", gpus, "--object-store-memory", 100 * 2**20]
    command = ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", port, *amounts]
    command += ["--include-dashboard=false", "--temp-dir", folder]
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert any("runtime started" in line for line in process.stdout)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        shutil.rmtree(folder)
