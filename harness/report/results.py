"""Sections with results: every table, per domain and per class."""

from __future__ import annotations

import matplotlib

from harness.report.drawings import ladder
from harness.report.findings import Comparison, Findings
from harness.report.parts import (
    NOTHING,
    Cell,
    Choice,
    Choices,
    Note,
    Plot,
    Section,
    TableView,
    frame_table,
    number,
    text,
)
from harness.split import SOURCE_VAL


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
