"""Counts agree with their nouns."""

from __future__ import annotations

import pytest

from benchmarks.catalogue import TASKS
from benchmarks.tasks import Task
from harness.audit_screen import shown_area
from harness.counts import counted
from harness.imagery import example_order


@pytest.mark.parametrize(
    ("count", "nouns", "text"),
    [
        (0, ("fault",), "0 faults"),
        (1, ("fault",), "1 fault"),
        (1, ("kind of leak", "kinds of leaks"), "1 kind of leak"),
    ],
)
def test_nouns(count: int, nouns: tuple[str, ...], text: str) -> None:
    assert counted(count, *nouns) == text


def test_small_areas_are_in_square_metres() -> None:
    assert [shown_area(km2) for km2 in (0, 0.000004, 0.0999, 0.1, 3.5)] == [
        "0 km2",
        "4 m2",
        "99900 m2",
        "0.1 km2",
        "3.5 km2",
    ]


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_as_many_bands_in_the_example_as_the_task_has(task: Task) -> None:
    assert sorted(example_order(len(task.bands))) == list(range(1, len(task.bands) + 1))
