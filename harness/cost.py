"""What a suite costs before it runs: hours, disk and memory, from measured step times and counted tiles. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from benchmarks.prepared.recipe import Expected
from benchmarks.recipes import RECIPES, load_recipe
from benchmarks.tasks import Task
from harness.estimate import Times, guess
from harness.foresight import Prospect
from harness.measured import FILE, StepTime, closest, recorded_step_times
from harness.records import Record
from harness.split import split_tiles
from harness.trial import Trial

FORWARD_SHARE = 0.5
"""Of a step's time per crop, what predicting a tile takes where nobody measured it: of the released code's steps, the
forward pass takes 43 % (REIN) to 52 % (SpectralMoE)."""

HEAD_PARAMETERS = 20_566_489
"""Of Mask2Former at the paper's size, for 24 classes."""

FLOAT, AREA = 4, 8
"""Bytes of a weight, and of an area in pixels."""
CHECKPOINT = 4
"""What a trial goes on from holds each weight, AdamW's two moments of it, and that of the best point so far."""
_SELECTIONS, _PANELS = 3, 6
_JSON_PER_TILE = 120
_TILE_PX = 512


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How many tiles trials of a task use.

    Args:
        train: of the source, to train on.
        source_val: of the source, held out.
        targets: of all targets; None if nobody says.
        says: where these numbers come from.
    """

    train: int
    source_val: int
    targets: int | None
    says: str

    @property
    def evaluated(self) -> int:
        """At each evaluation point, as far as known."""
        return self.source_val + (self.targets or 0)


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What the trials of a prospect cost, each.

    Args:
        prospect: which trials.
        tiles: what they use; None if nobody knows.
        steps: how many each makes; None if the tiles are not known.
        step: the measurement that told; None if there is none.
        seconds: None if no measurement or no tiles are known.
        parameters: trained weights; None if nobody knows.
    """

    prospect: Prospect
    tiles: Tiles | None
    steps: int | None
    step: StepTime | None
    seconds: float | None
    parameters: int | None

    @property
    def record_bytes(self) -> int:
        """The record, its areas per tile and its panels."""
        trial, tiles = self.prospect.trial, self.tiles
        evaluated, classes = tiles.evaluated if tiles else 0, len(trial.data.classes)
        areas = _SELECTIONS * AREA * (3 * classes * evaluated + classes**2 * (1 + len(trial.data.targets)))
        return areas + _JSON_PER_TILE * evaluated + _PANELS * 5 * _TILE_PX**2

    @property
    def weight_bytes(self) -> int:
        """The trained weights beside the record, as far as known."""
        return FLOAT * (self.parameters or 0)

    @property
    def checkpoint_bytes(self) -> int:
        """One checkpoint of a trial that runs."""
        return CHECKPOINT * self.weight_bytes


class Ledger:
    """Tells what trials cost, by what was measured."""

    def __init__(self, records: Iterable[Record], measured: Sequence[StepTime]) -> None:
        """Take earlier records, and measurements of `bench step`."""
        known = list(records)
        self.times = Times(known)
        self.steps = [*measured, *recorded_step_times(known)]
        self.used: set[int] = set()
        self._tiles: dict[tuple[str, str, int], Tiles | None] = {}

    def bill(self, prospect: Prospect) -> Bill:
        """What the trials of a prospect cost."""
        trial = prospect.trial
        tiles, step = self.tiles(prospect), closest(trial, self.steps)
        steps = _steps(trial, tiles)
        if step:
            self.used.add(id(step))
        # at the mini scale trials of other methods and lengths tell enough
        seconds = self.times.known(trial) if trial.scale.build == "mini" and not prospect.lack else None
        if seconds is None and step and tiles and steps:
            seconds = _seconds(trial, tiles, steps, step)
        return Bill(
            prospect=prospect,
            tiles=tiles,
            steps=steps,
            step=step,
            seconds=guess(trial) if seconds is None else seconds,
            parameters=(step.trainable_parameters if step else None) or _published(trial),
        )

    def tiles(self, prospect: Prospect) -> Tiles | None:
        """How many tiles its trials use: of the data where they are here, else as its sources say."""
        trial = prospect.trial
        place = (trial.task.name, trial.data_fingerprint, trial.protocol.max_tiles)
        if place not in self._tiles:
            self._tiles[place] = _expected(trial) if prospect.lack else _counted(trial)
        return self._tiles[place]

    @property
    def unused(self) -> list[StepTime]:
        """Measurements from files that told nothing of any trial."""
        return [step for step in self.steps if step.origin == FILE and id(step) not in self.used]


def _counted(trial: Trial) -> Tiles | None:
    try:
        split = split_tiles(trial.open_reader(), trial.data.source, trial.data.targets, trial.protocol.max_tiles)
    except ValueError:
        return None  # the check of the data before a run says what is wrong with them
    return Tiles(
        train=len(split.train),
        source_val=len(split.source_val),
        targets=sum(map(len, split.targets.values())),
        says="counted",
    )


def _expected(trial: Trial) -> Tiles | None:
    tiles, most = expected_tiles(trial.task), trial.protocol.max_tiles
    if tiles is None or not most:
        return tiles
    targets = None if tiles.targets is None else min(tiles.targets, most * len(trial.data.targets))
    return replace(tiles, train=min(tiles.train, most), source_val=min(tiles.source_val, most), targets=targets)


def expected_tiles(task: Task) -> Tiles | None:
    """How many tiles `data prepare` makes at its default choices, by the counts that its recipe knows.

    Those are official ones, or what the released schedule implies. None for a task without a recipe.
    """
    if task.name not in RECIPES or task.files is None:
        return None
    recipe = load_recipe(task.name)
    told = [expected for expected in recipe.expect(recipe.choose([])) if expected.tiles]
    source = next((expected for expected in told if expected.domains == (task.files.source,)), None)
    if source is None:
        return None
    whole = _most(source)
    source_val = max(1, round(whole / 10))
    return Tiles(train=whole - source_val, source_val=source_val, targets=_targets(task, told, whole), says=source.says)


def _targets(task: Task, told: Sequence[Expected], source: int) -> int | None:
    assert task.files is not None, "asked of tasks with files"
    targets = {frozenset(expected.domains): _most(expected) for expected in told}
    if frozenset(task.files.targets) in targets:
        return targets[frozenset(task.files.targets)]
    both = targets.get(frozenset({task.files.source, *task.files.targets}))
    return None if both is None else both - source


def _most(expected: Expected) -> int:
    assert expected.tiles is not None, "asked of those with tiles"
    return expected.tiles[1]


def _steps(trial: Trial, tiles: Tiles | None) -> int | None:
    protocol = trial.protocol
    if protocol.steps:
        return protocol.steps
    return math.ceil(protocol.epochs * tiles.train / protocol.batch_size) if tiles else None


def _seconds(trial: Trial, tiles: Tiles, steps: int, step: StepTime) -> float:
    each = step.seconds_per_evaluated_tile or FORWARD_SHARE * step.seconds_at(1)
    evaluating = trial.protocol.evaluations * tiles.evaluated * each
    return steps * step.seconds_at(trial.protocol.batch_size) + evaluating


def _published(trial: Trial) -> int | None:
    """Trained weights by the published count of the adapter, at the paper's sizes alone."""
    adapter = trial.options.published_m.get(trial.backbone.name)
    if adapter is None or trial.scale.build != "paper":
        return None
    return HEAD_PARAMETERS + round(1e6 * adapter)
