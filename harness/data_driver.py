"""The commands on data sets: find, check, do, show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.recipes import RECIPES
from harness import data_screen
from harness.lookup import find
from harness.prepare import check_room, claim, plan_preparation, prepare_scenes, withdraw, write_manifest
from harness.progress import counting


def prepare(task: str, *, raw: Path, out: Path, workers: int, tile_px: int, choose: Sequence[str]) -> None:
    """Prepare a task's tiles from its official files, or go on where a killed run stopped.

    Raises:
        ValueError: a wrong name or choice; official files missing, damaged or not as they should be; no room.
    """
    find("task with a recipe", task, RECIPES)
    plan = plan_preparation(task, raw, out, tile_px, choose)
    with claim(plan.folder):
        todo = plan.todo
        need, free = check_room(plan, todo)
        data_screen.show_preparation(plan, len(todo), need, free)
        withdraw(plan)
        with counting("preparing scenes", len(todo)) as advance:
            prepare_scenes(plan, todo, workers, advance)
        manifest = write_manifest(plan)
    data_screen.show_prepared(plan, manifest)
