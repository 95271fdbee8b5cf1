"""What a suite would run if all were here: its trials whether or not their data and weights are. Free of torch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.suites import Cell
from benchmarks.tasks import AbsentData, DataSource, Task
from harness.plan import Expansion, Request
from harness.trial import Trial
from harness.zoo import BackboneSpec

_PLAIN_SUITE = "cost"
"""One that changes nothing of a scale's protocol."""


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """Trials that differ in their seed alone.

    Args:
        trial: the one of them with seed 0; without data here its key means nothing.
        count: how many there are.
        lack: why there are no data for them; empty if there are.
        absent: nothing is wrong with the data: they are not here.
    """

    trial: Trial
    count: int
    lack: str = ""
    absent: bool = False

    def encoders(self) -> Iterator[BackboneSpec]:
        """The frozen encoders that need weights; shipped ones are asked for even where a control draws its own."""
        shipped = not self.trial.backbone.builds[self.trial.scale.build].weights.startswith("hub:")
        if shipped or self.trial.protocol.encoder_init != "random":
            yield self.trial.backbone
        if self.trial.depth_encoder:
            yield self.trial.depth_encoder


@dataclass(frozen=True, kw_only=True)
class _Supply:
    source: DataSource | None
    lack: str = ""
    absent: bool = False


def foresee(request: Request) -> list[Prospect]:
    """Every trial of a request, seeds together, in the order of the suite.

    Tasks that cannot have tiles at this scale at all, such as shifted scenes where only files are right, have none.

    Raises:
        ValueError: a name, option or value is wrong.
    """
    expansion = Expansion(request)
    supplies: dict[tuple[str, float | None], _Supply] = {}
    found: dict[Hashable, Prospect] = {}
    for cell, task, backbone, method in expansion.cells():
        where = (task.name, cell.severity)
        if where not in supplies:
            supplies[where] = _supply(expansion, task, cell)
        supply = supplies[where]
        if supply.source is None:
            continue
        trial = expansion.trial(cell, task, supply.source, backbone, method, seed=0)
        prospect = Prospect(trial=trial, count=expansion.seeds(cell), lack=supply.lack, absent=supply.absent)
        place = (where, trial.backbone.name, method.target, repr(trial.options), trial.protocol)
        if place not in found or found[place].count < prospect.count:
            found[place] = prospect
    expansion.refuse_unused_settings()
    return list(found.values())


def lone_trial(scale: str, task: str, backbone: str, method: str, settings: Sequence[str] = ()) -> Trial:
    """The trial of one method with seed 0 under the scale's own protocol, whether or not its data and weights are here.

    Args:
        scale: name of the scale.
        task: name, or path of a task file.
        backbone: name.
        method: name, or `path/to/file.py:Class`.
        settings: `method.option=value` and `protocol.field=value`.

    Raises:
        ValueError: a name, option or value is wrong, or the method's name stands for several.
    """
    for option, name in (("--task", task), ("--method", method)):
        if name == "all":
            raise ValueError(f"{option} all: give one")
    expansion = Expansion(
        Request(
            suite=_PLAIN_SUITE,
            scale=scale,
            tasks=(task,),
            backbones=(backbone,),
            methods=(method,),
            settings=settings,
            recorded=False,
        )
    )
    (chosen,) = expansion.tasks.values()
    (known,) = expansion.backbones
    (ref,) = expansion.given_methods.values()
    source = chosen.embedded if expansion.scale.scenes and chosen.embedded else chosen.files
    assert source is not None, "every task has tiles somewhere"
    trial = expansion.trial(Cell(), chosen, source, known, ref, seed=0)
    expansion.refuse_unused_settings()
    return trial


def _supply(expansion: Expansion, task: Task, cell: Cell) -> _Supply:
    try:
        supply = expansion.supply(task, cell)
    except ValueError as defect:
        return _Supply(source=task.files, lack=str(defect), absent=isinstance(defect, AbsentData))
    if isinstance(supply, str):
        rendered_only = cell.severity is not None
        return _Supply(source=None if rendered_only else task.files, lack=supply, absent=True)
    return _Supply(source=supply)
