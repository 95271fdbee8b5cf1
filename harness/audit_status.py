"""What records and tables say of the audit of their data. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.prepared.audit_report import StaleReport, data_digest, load_report, report_path
from benchmarks.tasks import Reader
from harness.records import Record, RecordStore
from harness.split import SOURCE_VAL
from harness.status import Status
from harness.trial import Trial

AUDITED, STALE, UNREADABLE, MISSING = "audited", "out of date", "not understood", "not audited"
_SAYS = {
    STALE: "not audited: the stored audit is of other data",
    UNREADABLE: "not audited: the stored audit is not understood",
    MISSING: "not audited",
}


def audit_of(trial: Trial, reader: Reader) -> dict[str, Any]:
    """For a record's `run` part: how the audit of the trial's files stands; empty for embedded scenes."""
    if trial.data.kind != "files":
        return {}
    root = trial.data_root or trial.data.home
    assert root is not None, "files lie below a data root, or beside the task file"
    return {"audit": audit_state(trial.task.name, reader, root)}


def audit_state(task: str, reader: Reader, root: Path) -> dict[str, Any]:
    """How the audit of a task's files stands: `state`, and for one of these data `outcomes` by the second set.

    Args:
        task: name of the task.
        reader: of its files.
        root: where they lie.
    """
    path = report_path(task, reader, root)
    if not path.is_file():
        return {"state": MISSING}
    try:
        report = load_report(path, data_digest(reader))
    except StaleReport:
        return {"state": STALE}
    except ValueError:
        return {"state": UNREADABLE}
    return {"state": AUDITED, "outcomes": {pair.second: pair.outcome for pair in report.pairs}}


def audit_text(records: Iterable[Record]) -> str:
    """One sentence for the caption of a table of these records, which are of the same data."""
    said = {_text(record): None for record in sorted(records, key=lambda record: record.key)}
    return f"Leakage: {' / '.join(sorted(said))}."


def _text(record: Record) -> str:
    if record.inputs["data"] == "embedded":
        return "source and targets disjoint by construction (generated)"
    audit: Mapping[str, Any] = record.run.get("audit", {"state": MISSING})
    if audit["state"] != AUDITED:
        return f"{_SAYS[audit['state']]} (`data audit`)"
    names: dict[str, list[str]] = {}
    for second, outcome in audit["outcomes"].items():
        names.setdefault(outcome, []).append("source validation" if second == SOURCE_VAL else second)
    return "; ".join(f"{', '.join(names[outcome])} {outcome}" for outcome in names) + " (`data audit`)"


def renew(trials: Iterable[Trial], store: RecordStore) -> None:
    """Bring done records in step with an audit made after them; their `result` stays as it is.

    Raises:
        ValueError: the records cannot be written.
    """
    known: dict[str, dict[str, Any]] = {}
    for trial in trials:
        record = store.load(trial.key) if trial.data.kind == "files" else None
        if record is None or record.status is not Status.DONE:
            continue
        if trial.data_fingerprint not in known:
            known[trial.data_fingerprint] = audit_of(trial, trial.open_reader())
        now = known[trial.data_fingerprint]
        if record.run.get("audit") != now["audit"]:
            store.annotate(trial.key, **now)
