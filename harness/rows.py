"""Which records tables show: of those that would share a row, only the ones that belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from harness.records import Record
from harness.scales import Protocol
from harness.status import Status
from harness.trial import Trial, digest


def table_of(inputs: Mapping[str, Any]) -> str:
    """Task, data (with its fingerprint) and recipe: what a table's rows have in common."""
    return digest(
        [inputs["task"], inputs["task_version"], inputs["data_fingerprint"], inputs["head"], recipe_of(inputs)]
    )


def row_of(inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader can tell a row by within its table."""
    return (labels["backbone"], labels["controls"], inputs["method"], labels["options"])


def current(records: Iterable[Record], planned: Iterable[Trial] = ()) -> list[Record]:
    """The records without stale ones: of one row, those of one source, version and weights, whatever the seed.

    These are the planned ones, failures included; where nothing is planned, the newest of which anything is done. So a
    suite's row goes while its method's changed source fails, and comes back when the source does; a table built from
    records alone does not lose a row to a failure.

    Args:
        records: every record of a results folder.
        planned: the trials of the suite at hand.
    """
    wanted: dict[tuple[str, ...], set[str]] = {}
    for trial in planned:
        inputs = trial.inputs()
        wanted.setdefault(_place(inputs, trial.labels()), set()).add(_edition(inputs))
    kept: dict[tuple[str, ...], dict[str, list[Record]]] = {}
    for record in records:
        place, edition = _place(record.inputs, record.result["labels"]), _edition(record.inputs)
        if edition in wanted.get(place, {edition}):
            kept.setdefault(place, {}).setdefault(edition, []).append(record)
    return [record for editions in kept.values() for record in max(editions.values(), key=_rank)]


def refuse_mixed(what: str, records: Iterable[Record]) -> None:
    """Refuse records of several versions of the protocol's code: their numbers do not compare.

    Args:
        what: where they would stand together.
        records: those with numbers.

    Raises:
        ValueError: there are several; the message says how many of each, and the way out.
    """
    counts = Counter(int(record.inputs["protocol_version"]) for record in records if record.status is Status.DONE)
    if len(counts) > 1:
        held = " and ".join(f"{n} of version {version}" for version, n in sorted(counts.items()))
        raise ValueError(
            f"{what}: its records are of several protocol versions ({held}), whose numbers do not compare: run their "
            f"suites again, which replaces the older ones, or give --results DIR with records of one version"
        )


def _place(inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> tuple[str, ...]:
    return (table_of(inputs), *row_of(inputs, labels))


def recipe_of(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol without its controls."""
    return {name: value for name, value in inputs["protocol"].items() if name not in Protocol.CONTROLS}


def _edition(inputs: Mapping[str, Any]) -> str:
    """Source, version, weights and all else but the seed."""
    return digest({name: value for name, value in inputs.items() if name != "seed"})


def _rank(records: list[Record]) -> tuple[bool, str]:
    return any(r.status is Status.DONE for r in records), max(str(record.run["finished"]) for record in records)
