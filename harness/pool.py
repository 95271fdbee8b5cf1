"""One function over many items in processes of their own, which end with the program, however it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[tuple[T, R | ValueError]]:
    """Call a function on every item; yields items with results, or with the `ValueError` raised, as they come.

    Args:
        function: a function of a module, so that it can travel.
        items: its arguments.
        workers: processes; 0 for one per core that this process may use, 1 for this process alone.

    Raises:
        ValueError: `workers` is negative, or a worker was killed.
    """
    if workers < 0:
        raise ValueError(f"--workers {workers}: give 1 or more, or 0 for one per core")
    workers = min(workers or len(os.sched_getaffinity(0)), len(items))
    if workers <= 1:
        for item in items:
            yield item, _outcome(function, item)
        return
    context = get_context("spawn")  # libraries hold threads, which a fork would leave in an unknown state
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        futures: dict[Future[R | ValueError], T] = {pool.submit(_outcome, function, item): item for item in items}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise ValueError(
                "a worker process was killed, perhaps for want of memory; give fewer --workers and run the same "
                "command again: what is whole is kept"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _outcome(function: Callable[[T], R], item: T) -> R | ValueError:
    try:
        return function(item)
    except ValueError as error:
        return error


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever; one at Ctrl-C would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None, "only workers call this"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
