"""Which records stand behind an entry of a suite's table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.suites import Cell
from benchmarks.tasks import AS_IS, DataSource, Task
from harness.lookup import find_task
from harness.plan import Expansion
from harness.records import Record
from harness.scales import Scale
from harness.status import Status
from harness.trial import MethodRef, canonical
from harness.zoo import BACKBONE_NAMES

UNKNOWN = "default options"
"""Stands for the options of a method whose code is not at hand: records alone tell when nothing differs."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The records behind an entry: the done ones by seed, and how many failed."""

    done: Sequence[Record] = ()
    failed: int = 0


class Shelf:
    """Records by what they are of: data, task, backbone, method, options, protocol and shift.

    Args:
        records: those that tables show (`harness.rows.current`).
        expansion: the suite and its settings, which say what is looked for.
        kind: `embedded` or `files`: the data whose records count.
        planned: keys of the trials at hand, whose data win over other data of the same task.
    """

    def __init__(
        self, records: Iterable[Record], expansion: Expansion, kind: str, planned: Collection[str] = ()
    ) -> None:
        """Sort the records."""
        self.expansion, self.kind = expansion, kind
        self._records: dict[tuple[str, ...], list[Record]] = {}
        known = [record for record in records if record.inputs["data"] == kind]
        newest = _newest(known, planned)
        for record in known:
            if newest[_data(record)] == _edition(record):
                for place in _places(record):
                    self._records.setdefault(place, []).append(record)

    def find(self, cell: Cell, method: MethodRef | None) -> Found:
        """The records of a cell without wildcards.

        Args:
            cell: what is looked for.
            method: its method; None for one from outside whose code is not at hand, at its default options.
        """
        task = self.expansion.tasks.get(cell.task) or find_task(cell.task)
        source = task.embedded if self.kind == "embedded" else task.files
        if source is None:
            return Found()
        place = (cell.task, cell.backbone, cell.method, *self._recipe(cell, task, source, method))
        records = {int(record.inputs["seed"]): record for record in self._records.get(place, ())}
        done = [records[seed] for seed in sorted(records) if records[seed].status is Status.DONE]
        return Found(done=done, failed=len(records) - len(done))

    def outsiders(self) -> dict[str, str]:
        """Titles of the methods from outside that have a record, by name."""
        every = {record.key: record for records in self._records.values() for record in records}
        outside = [record for record in every.values() if record.inputs["method_source_sha256"]]
        titles = {str(record.inputs["method"]): str(record.result["labels"]["method"]) for record in outside}
        return dict(sorted(titles.items()))

    def _recipe(self, cell: Cell, task: Task, source: DataSource, method: MethodRef | None) -> tuple[str, str, str]:
        shift = told_shift(self.expansion.scale_of(cell)) if self.kind == "embedded" else {}
        if method is None:
            return UNKNOWN, canonical(self.expansion.protocol(cell, task).inputs()), canonical(shift)
        options, protocol = self.expansion.recipe(cell, task, source, cell.backbone, method)
        return canonical(asdict(options)), canonical(protocol.inputs()), canonical(shift)


def told_shift(scale: Scale) -> dict[str, Any]:
    """Severity and ingredients of a scale's shift, where they are not the tasks' own: as a trial's inputs have them."""
    if scale.scenes is None:
        return {}
    return {name: value for name, value in asdict(scale.scenes.shift).items() if value != getattr(AS_IS, name)}


def _places(record: Record) -> list[tuple[str, ...]]:
    inputs: Mapping[str, Any] = record.inputs
    spec = BACKBONE_NAMES.get(inputs["backbone"])
    backbone = spec.name if spec else inputs["backbone"]
    recipe = (canonical(inputs["protocol"]), canonical(inputs.get("shift", {})))
    place = (inputs["task"], backbone, inputs["method"])
    options = [canonical(inputs["options"])] + [UNKNOWN] * (not record.result["labels"]["options"])
    return [(*place, option, *recipe) for option in options]


def _data(record: Record) -> tuple[str, str]:
    return record.inputs["task"], canonical(record.inputs.get("shift", {}))


def _edition(record: Record) -> tuple[int, str]:
    return record.inputs["task_version"], record.inputs["data_fingerprint"]


def _newest(records: Iterable[Record], planned: Collection[str]) -> dict[tuple[str, str], tuple[int, str]]:
    """Of each task and shift, the data that count: those at hand, else the last that were used."""
    ranked = sorted(records, key=lambda record: (record.key in planned, str(record.run["finished"]), record.key))
    return {_data(record): _edition(record) for record in ranked}
