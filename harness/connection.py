"""The way to a Ray cluster, this machine's own or a running one, and how many trials it can hold."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness.schedule import Resources

HEALTH_SECONDS = 15.0
"""How long a cluster may take to answer."""


@contextmanager
def connected(resources: Resources) -> Iterator[None]:
    """Ray, started or joined; left or ended at the end.

    Raises:
        ValueError: no cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # its pages on dead workers; the loop tells in a line
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "worker died|were killed")
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if resources.address:
        _reach(resources.address)
        try:
            ray.init(address=resources.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"--address {resources.address}: no Ray cluster answers ({error}); start one with `ray start --head`, "
                f"or drop --address"
            ) from error
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody else can reach it
        # the object store carries records alone, and containers have little shared memory
        ray.init("local", include_dashboard=False, object_store_memory=256 * 2**20, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Try the port and Ray's own check first: `ray.init` gives up only after two minutes, by ending the process."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit() or "/" in host:
        raise ValueError(f"--address {address}: write HOST:PORT of a Ray cluster's head, or auto")
    check = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
        ended = subprocess.run(check, capture_output=True, text=True, check=False, timeout=HEALTH_SECONDS)
        if not ended.returncode:
            return
        reason = "".join(ended.stderr.strip().splitlines()[-1:])
    except OSError as error:
        reason = str(error)
    except subprocess.TimeoutExpired:
        reason = f"nothing said for {HEALTH_SECONDS:g} s"
    raise ValueError(
        f"--address {address}: no Ray cluster answers there ({reason}); start one with `ray start --head`, or drop "
        f"--address"
    )


def slots(resources: Resources) -> int:
    """How many trials run at the same time.

    Raises:
        ValueError: the cluster has not what is asked for.
    """
    import ray

    gpus = resources.gpus or 0.0
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    most = sum(_fitting(node, resources.cpus, gpus) for node in nodes)
    has = f"the cluster has {_amount(nodes, 'CPU')} CPUs and {_amount(nodes, 'GPU')} GPUs on {len(nodes)} machine(s)"
    asked = f"--cpus-per-trial {resources.cpus} --gpus-per-trial {gpus:g}"
    if not most:
        hint = "--gpus-per-trial 0 runs on CPU" if gpus else "ask for less"
        raise ValueError(f"{asked}: no machine can run one trial, {has}; {hint}")
    if resources.workers > most:
        raise ValueError(
            f"--workers {resources.workers} with {asked}: {has}, enough for {most} at once; lower --workers"
        )
    return resources.workers or most


def _fitting(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    by_cpu = int(node.get("CPU", 0.0) // cpus)
    if not gpus:
        return by_cpu
    have = int(node.get("GPU", 0.0))
    return min(by_cpu, int(have // gpus) if gpus >= 1 else have * int(1 / gpus))


def _amount(nodes: Sequence[Mapping[str, float]], kind: str) -> int:
    return int(sum(node.get(kind, 0.0) for node in nodes))
