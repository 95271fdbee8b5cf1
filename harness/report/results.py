"""Sections with results: methods over tasks, every table, per domain and per class."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from scipy.stats import rankdata

from harness.report.drawings import SCORE, ladder
from harness.report.findings import Comparison, Findings
from harness.report.parts import (
    NOTHING,
    Cell,
    Choice,
    Choices,
    Note,
    Part,
    Plot,
    Section,
    TableView,
    frame_table,
    number,
    text,
)
from harness.split import SOURCE_VAL
from harness.trial import digest


def ranking(found: Findings) -> Section:
    """Methods over tasks, one block per backbone and recipe."""
    blocks: dict[tuple[str, ...], list[Comparison]] = {}
    for comparison in found.comparisons:
        labels, inputs = comparison.labels, comparison.first.inputs
        block = (labels["backbone"], labels["recipe"], labels["data"], str(inputs["protocol_version"]))
        blocks.setdefault((*block, digest(inputs["head"])), []).append(comparison)
    largest_first = sorted(blocks.values(), key=lambda same: -len({c.task for c in same}))
    options = [_ranked(f"rank{i}", same) for i, same in enumerate(largest_first)]
    return Section(
        slug="ranking",
        title="Methods over tasks",
        lead=(
            "Target mIoU in % of every method on every task (mean over seeds, checkpoint chosen on held-out source "
            "scenes) and its average rank, 1 for the best; only methods with every task have a mean and a rank. Read "
            "down a column for a task, by average rank for the whole. A rank does not say how large a difference is, "
            "nor whether it would last: the 95 % intervals and paired differences stand in the tables below."
        ),
        parts=[Choices(label="Backbone and recipe", options=options)] if options else [Note(text=NOTHING)],
    )


def _ranked(slug: str, same: Sequence[Comparison]) -> Choice:
    by_task = {comparison.task: comparison for comparison in sorted(same, key=_newest)}
    tasks = [task for task in dict.fromkeys(c.task for c in same) if task in by_task]
    scores: dict[str, dict[str, float]] = {}
    for task in tasks:
        for row in by_task[task].rows:
            scores.setdefault(row.title, {})[task] = row.target
    whole = [title for title, by in scores.items() if len(by) == len(tasks)]
    ranks_TM = [rankdata([-scores[title][task] for title in whole]) for task in tasks]
    ranks = dict(zip(whole, np.mean(ranks_TM, axis=0).tolist(), strict=True)) if len(whole) > 1 else {}
    means = {title: float(np.mean(list(by.values()))) for title, by in scores.items()}
    order = sorted(scores, key=lambda title: (ranks.get(title, np.inf), -len(scores[title]), -means[title]))
    rows = [
        [
            text(title),
            *(number(scores[title].get(task)) for task in tasks),
            number(means[title] if title in whole else None),
            number(ranks.get(title), ".2f"),
        ]
        for title in order
    ]
    caption = f"{len(tasks)} task(s), {len(whole)} of {len(scores)} methods with all of them. mIoU in %."
    parts: list[Part] = [TableView(caption=caption, columns=["Method", *tasks, "Mean", "Avg. rank"], rows=rows)]
    lacking = [f"{t} ({', '.join(k for k in tasks if k not in scores[t])})" for t in order if t not in whole]
    if lacking:
        parts.append(Note(text=f"Not ranked, because a task is missing: {'; '.join(lacking)}."))
    if not ranks:
        parts.append(Note(text="No ranks: fewer than two methods have every task."))
    drawn = {title: {task: scores[title].get(task, np.nan) for task in tasks} for title in order}
    alt = "; ".join(f"{t}: " + ", ".join(f"{k} {v:.1f}" for k, v in scores[t].items()) for t in order)
    svg = ladder(drawn, SCORE, f"Target mIoU in percent by method and task. {alt}", slug)
    parts.append(Plot(caption="Target mIoU by task, methods by average rank.", svg=svg, name=slug))
    labels = same[0].labels
    return Choice(title=" · ".join(filter(None, (labels["backbone"], labels["recipe"]))), parts=parts)


def _newest(comparison: Comparison) -> str:
    return max(str(record.run["finished"]) for row in comparison.rows for record in row.records)


def tables(found: Findings) -> Section:
    """Every result table as `tables/` has it, sortable."""
    options = [
        Choice(
            title=table.heading,
            parts=[frame_table(table.display, table.caption, table.values, table.name)],
        )
        for table in found.tables
    ]
    return Section(
        slug="tables",
        title="Result tables",
        lead=(
            "One table per task, data and recipe, as written to tables/; a click on a heading sorts, the link below "
            "gives full precision. Only rows of one table may be compared with one another. A difference without its "
            "mark is not a finding, and the column Oracle peeks at the target: it is no method's result."
        ),
        parts=[Choices(label="Table", options=options)] if options else [Note(text=NOTHING)],
    )


def breakdown(found: Findings) -> Section:
    """Per domain and per class."""
    options = [Choice(title=c.title, parts=[_domains(c), _classes(c)]) for c in found.comparisons]
    return Section(
        slug="breakdown",
        title="Per domain and per class",
        lead=(
            "Where the pooled number comes from: mIoU in the source's held-out scenes and in every target domain, then "
            "IoU of every class over all target tiles (means over seeds, checkpoint chosen on the source). A dash is a "
            "class that is neither labelled nor predicted. Rare classes rest on few pixels: a high or low cell there "
            "says little."
        ),
        parts=[Choices(label="Task and backbone", options=options)] if options else [Note(text=NOTHING)],
    )


def _domains(comparison: Comparison) -> Plot:
    names = {SOURCE_VAL: "source (held out)", **comparison.labels["domains"]}
    domains = [SOURCE_VAL, *comparison.rows[0].domains]
    values = {row.title: {names.get(d, d): row.mean(d) for d in domains} for row in comparison.rows}
    told = "; ".join(f"{title}: " + ", ".join(f"{k} {v:.1f}" for k, v in by.items()) for title, by in values.items())
    slug = f"domains-{comparison.slug}"
    svg = ladder(values, "mIoU (%)", f"mIoU in percent by method and domain. {told}", slug)
    return Plot(caption=f"{comparison.title}: mIoU by domain.", svg=svg, name=slug)


def _classes(comparison: Comparison) -> TableView:
    classes = [str(name) for name in comparison.first.result["classes"]]
    per_row = [row.classes() for row in comparison.rows]
    highest = max([value for values in per_row for value in values if value == value], default=1.0) or 1.0
    rows = [
        [text(row.title), *(_shaded(value, highest) for value in values), number(row.mean())]
        for row, values in zip(comparison.rows, per_row, strict=True)
    ]
    caption = f"{comparison.title}: IoU in % by class, target tiles pooled; brighter is higher."
    return TableView(caption=caption, columns=["Method", *classes, "mIoU"], rows=rows)


def _shaded(value: float, highest: float) -> Cell:
    cell = number(value)
    if cell.value is None:
        return cell
    red, green, blue, _ = matplotlib.colormaps["cividis"](value / highest)
    ink = "#000" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.45 else "#fff"
    colour = matplotlib.colors.to_hex((red, green, blue))
    return Cell(text=cell.text, value=value, style=f"background:{colour};color:{ink}")
