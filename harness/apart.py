"""A call in a process of its own: what it took is free afterwards, its peak memory is its own. Free of torch."""

from __future__ import annotations

import importlib
import multiprocessing
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any


class Died(Exception):
    """The process ended before it could answer."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a function returned, the seconds it took, and the peak memory of its process in MiB."""

    value: Any
    seconds: float
    peak_mb: float


def call_apart(target: str, *args: object) -> Answer:
    """Call a function in a process of its own.

    The first call starts a server that imports the function's module, and every process is a copy of that server: heavy
    libraries are imported once, and never here.

    Args:
        target: the function, as `module:name`.
        args: what it is called with; they travel by pickle, as does the answer.

    Raises:
        Died: the process was killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([target.partition(":")[0]])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_measured, target, *args).result()
        except BrokenProcessPool as error:
            raise Died from error


def _measured(target: str, *args: object) -> Answer:
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    clock = time.perf_counter()
    value = function(*args)
    return Answer(value=value, seconds=time.perf_counter() - clock, peak_mb=process_peak_mb())


def process_peak_mb() -> float:
    """The most memory that this process has held so far, in MiB."""
    # kilobytes on Linux, bytes on macOS
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
