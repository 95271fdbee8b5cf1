"""Sections on how the numbers came about: protocol, environment, audit, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from harness.records import Record
from harness.report.findings import Findings
from harness.report.parts import Details, Note, Part, Section, TableView, number, text
from harness.split import SOURCE_VAL
from harness.status import Status
from harness.trial import special

VERSIONS = ("device", "commit", "python", "torch")


def missing(found: Findings) -> Section:
    """Failed trials, gaps and files that could not be used, by name."""
    parts: list[Part] = [_failures(found)] if found.failed else [Note(text="No trial failed.")]
    gaps = _gaps(found)
    if gaps:
        caption = "Seeds that other rows of the same table have and these lack."
        rows = [[text(cell) for cell in gap] for gap in gaps]
        columns = ["Task, backbone, recipe", "Method", "Seeds missing"]
        parts.append(TableView(caption=caption, columns=columns, rows=rows))
    else:
        parts.append(Note(text="No seed is missing: every row of a table has the seeds of the others."))
    if found.corrupt:
        parts.append(Note(text=f"Left out, because they are damaged: {', '.join(found.corrupt)}.", warning=True))
    if found.stale:
        parts.append(
            Note(
                text=f"{found.stale} finished trial(s) left out: newer code, weights or data of the same row took "
                f"their place."
            )
        )
    return Section(
        slug="missing",
        title="Failed and missing",
        lead=(
            "What the numbers above do not contain. A failed trial is never counted as zero and never dropped in "
            "silence; a row with fewer seeds has a less certain mean, and failures that depend on the method bias what "
            "is left. `python run.py show KEY` gives the traceback."
        ),
        parts=parts,
        numbers=False,
    )


def _failures(found: Findings) -> TableView:
    rows = []
    for record in found.failed:
        assert record.error is not None, "a failed record says why"
        lines = record.error["message"].splitlines()
        reason = f"{record.error['type']}: {lines[0] if lines else ''}"
        rows.append([text(cell) for cell in (record.key, *_trial(record), reason)])
    columns = ["Key", "Task", "Backbone", "Method", "Recipe", "Seed", "Reason"]
    return TableView(caption=f"{len(rows)} failed trial(s).", columns=columns, rows=rows)


def _trial(record: Record) -> tuple[str, ...]:
    labels, extra = record.result["labels"], special(record.result["labels"])
    method = labels["method"] + (f" ({extra})" if extra else "")
    return record.inputs["task"], labels["backbone"], method, labels["recipe"] or "default", str(record.inputs["seed"])


def _gaps(found: Findings) -> list[tuple[str, str, str]]:
    gaps = []
    for comparison in found.comparisons:
        seeds = {row.title: {int(record.inputs["seed"]) for record in row.records} for row in comparison.rows}
        whole = set().union(*seeds.values())
        gaps += [
            (comparison.title, title, ", ".join(map(str, sorted(whole - own))))
            for title, own in seeds.items()
            if whole - own
        ]
    return gaps


def audit(found: Findings) -> Section:
    """Whether source and targets share ground, as far as records say."""
    said: dict[tuple[str, str], None] = {}
    for record in found.done:
        said[record.result["labels"]["task"], audit_text(record)] = None
    rows = [[text(task), text(outcome)] for task, outcome in sorted(said)]
    table = TableView(caption="Audit of the data behind each task.", columns=["Task", "Outcome"], rows=rows)
    return Section(
        slug="audit",
        title="Data audit",
        lead=(
            "Whether source and target tiles were compared for shared scenes, duplicates and ground, as the records "
            "keep it. `overlap found` and `not audited` both mean that target scores may be too good; an audit sees "
            "tiles, not what a foundation model was pretrained on."
        ),
        parts=[table] if rows else [Note(text="No finished trial: nothing to audit.")],
        numbers=False,
    )


def audit_text(record: Record) -> str:
    """What a record says of the audit of its data."""
    if record.inputs["data"] == "embedded":
        return "disjoint by construction (generated scenes)"
    found: Mapping[str, Any] = record.run.get("audit") or {}
    outcomes: Mapping[str, str] = found.get("outcomes") or {}
    if outcomes:
        named = {SOURCE_VAL: "source validation", **record.result["labels"]["domains"]}
        return "; ".join(f"{named.get(domain, domain)}: {outcome}" for domain, outcome in outcomes.items())
    state = str(found.get("state") or "not audited")
    return state if state == "not audited" else f"not audited (stored audit: {state})"


def protocol(found: Findings) -> Section:
    """The recipes, the machines, and every trial."""
    records = [*found.done, *found.failed]
    return Section(
        slug="protocol",
        title="Protocol and environment",
        lead=(
            "What all trials of a recipe have in common, which code and machines ran them, and every trial by its key. "
            "Scores are bit-identical on one lock and kind of CPU; where several commits, versions or devices are "
            "listed, small differences between their trials may come from those."
        ),
        parts=[
            _environment(records),
            *_recipes(records),
            Details(title=f"All {len(records)} trials", parts=[_trials(found)]),
        ],
    )


def _recipes(records: Iterable[Record]) -> list[Part]:
    """What differs between the recipes, and, folded away, all of their settings."""
    recipes: dict[str, Record] = {}
    for record in records:
        recipes.setdefault(record.result["labels"]["recipe"] or "default", record)
    names = sorted(recipes)
    given = {name: _facts(recipes[name]) for name in names}
    fields = list(dict.fromkeys(field for name in names for field in given[name]))
    differing = [field for field in fields if len({given[name].get(field) for name in names}) > 1]

    def table(caption: str, shown: list[str]) -> TableView:
        rows = [[text(field), *(text(given[name].get(field, "default")) for name in names)] for field in shown]
        return TableView(caption=caption, columns=["Setting", *names], rows=rows)

    whole = table("Controls (queries, depth, ...) may differ by row and are named there.", fields)
    parts: list[Part] = [table("Settings in which the recipes differ.", differing)] if differing else []
    return [*parts, Details(title=f"All settings of {len(names)} recipe(s)", parts=[whole])]


def _facts(record: Record) -> dict[str, str]:
    inputs = record.inputs
    given = {"protocol version": inputs["protocol_version"], **inputs.get("shift", {}), **inputs["protocol"]}
    given |= {f"head {name}": value for name, value in inputs["head"].items()}
    return {name: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for name, v in given.items()}


def _environment(records: Iterable[Record]) -> TableView:
    known = list(records)
    hosts = len({record.run.get("host") for record in known})
    seeds = sorted({int(record.inputs["seed"]) for record in known})
    began = min(datetime.fromisoformat(record.run["started"]) for record in known)
    ended = max(datetime.fromisoformat(record.run["finished"]) for record in known)
    rows = [
        ("trials", f"{len(known)} ({sum(record.status is Status.FAILED for record in known)} failed)"),
        ("seeds", ", ".join(map(str, seeds))),
        ("machines", str(hosts)),
        *((what, _counted(record.run.get(what) for record in known)) for what in VERSIONS),
        ("hours of trials", f"{sum(float(record.run['seconds']) for record in known) / 3600:.2f}"),
        ("first trial began", f"{began:%Y-%m-%d %H:%M} UTC"),
        ("last trial ended", f"{ended:%Y-%m-%d %H:%M} UTC"),
    ]
    cells = [[text(what), text(value)] for what, value in rows]
    return TableView(caption="Environment; in brackets the number of trials.", columns=["What", "Value"], rows=cells)


def _counted(values: Iterable[object]) -> str:
    counts = Counter("not recorded" if value is None else str(value) for value in values)
    return ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))


def _trials(found: Findings) -> TableView:
    rows = []
    for record in sorted((*found.done, *found.failed), key=lambda r: (*_trial(r)[:4], int(r.inputs["seed"]), r.key)):
        scores = record.result.get("selections", {}).get("source_val", {}).get("scores", {})
        rows.append(
            [
                *(text(cell) for cell in (record.key, *_trial(record), record.status)),
                *(number(scores.get(domain, {}).get("miou")) for domain in (SOURCE_VAL, "target")),
                number(float(record.run["seconds"]), ".0f"),
                text(record.run["commit"]),
            ]
        )
    columns = ["Key", "Task", "Backbone", "Method", "Recipe", "Seed", "Status", "Source", "Target", "Seconds", "Commit"]
    return TableView(caption="Every trial; scores: mIoU in %, chosen on the source.", columns=columns, rows=rows)
