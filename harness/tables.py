"""Tables from records alone: one per task, data and recipe; Markdown, LaTeX and CSV.

A recipe is the protocol without its controls: records of different recipes never share a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from harness.audit_status import audit_text
from harness.evidence import Evidence, baseline_of, rows_of
from harness.markdown import to_markdown
from harness.records import Record
from harness.rows import current, refuse_mixed, table_of
from harness.split import SOURCE_VAL, TARGET
from harness.statistics import MIN_SCENES, MIN_SEEDS, Difference, compare_pairs, estimates
from harness.status import Status
from harness.trial import Trial


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """A table ready to print and to write.

    Args:
        name: file name without suffix.
        heading: scale, data, task, recipe.
        caption: how the numbers came about.
        values: full-precision numbers, one row per method; for CSV.
        display: the same as text, for people.
        keys: the records in it.
    """

    name: str
    heading: str
    caption: str
    values: pd.DataFrame
    display: pd.DataFrame
    keys: frozenset[str]


def build_tables(records: Iterable[Record], scale: str, planned: Iterable[Trial] = ()) -> list[ResultTable]:
    """All tables of a results folder, in a fixed order; failed and stale records take no part.

    Args:
        records: every record of the folder.
        scale: the scale's name, for the headings.
        planned: the trials of the suite at hand, beside which older records of the same rows are stale.
    """
    groups: dict[str, list[Record]] = {}
    for record in current(records, planned):
        if record.status is Status.DONE:
            groups.setdefault(table_of(record.inputs), []).append(record)
    tables = [(group, _table(groups[group], scale)) for group in sorted(groups)]
    names = Counter(table.name for _, table in tables)
    # what no label tells apart (an older data set, another head) must not overwrite one another's files
    distinct = [
        replace(table, name=f"{table.name}-{group[:6]}") if names[table.name] > 1 else table for group, table in tables
    ]
    return sorted(distinct, key=lambda table: table.name)


def write_tables(tables: Collection[ResultTable], folder: Path) -> list[Path]:
    """Write each table as Markdown, LaTeX and CSV, and remove those of earlier ones; returns the Markdown files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    _remove_others(folder, {table.name for table in tables})
    for table in tables:
        path = folder / f"{table.name}.md"
        path.write_text(f"# {table.heading}\n\n{to_markdown(table.display, 1)}\n\n{table.caption}\n", encoding="utf-8")
        latex = table.display.to_latex(
            index=False,
            escape=True,
            caption=_escape(f"{table.heading}. {table.caption}"),
            label=f"tab:{table.name}",
            column_format="l" + "r" * (len(table.display.columns) - 1),
        )
        (folder / f"{table.name}.tex").write_text(latex.replace("Δ", r"$\Delta$"), encoding="utf-8")
        table.values.to_csv(folder / f"{table.name}.csv", index=False)
        written.append(path)
    return written


def _remove_others(folder: Path, names: Collection[str]) -> None:
    """Remove tables of other names: all their rows are gone."""
    for latex in folder.glob("*.tex"):
        files = [latex.with_suffix(suffix) for suffix in (".md", ".tex", ".csv")]
        if latex.stem not in names and all(file.is_file() for file in files):
            for file in files:
                file.unlink()


def _escape(text: str) -> str:
    for sign in ("%", "_", "&", "#"):
        text = text.replace(sign, "\\" + sign)
    return text.replace("·", "--")


def _table(records: list[Record], scale: str) -> ResultTable:
    first = records[0]
    labels, inputs = first.result["labels"], first.inputs
    rows = rows_of(records)
    baselines = [(row, baseline_of(row, rows)) for row in rows]
    compared = compare_pairs([(row, baseline) if baseline else None for row, baseline in baselines])
    values = pd.DataFrame([_values(row, difference) for row, difference in zip(rows, compared, strict=True)])
    name = "-".join(filter(None, (inputs["task"], labels["data"], _slug(labels["recipe"]))))
    refuse_mixed(f"table {name}", records)
    heading = f"{scale} ({labels['data']}) · {labels['task']}" + (f" · {labels['recipe']}" if labels["recipe"] else "")
    return ResultTable(
        name=name,
        heading=heading,
        caption=_caption(rows, inputs),
        values=values,
        display=_display(values, labels["domains"]),
        keys=frozenset(record.key for record in records),
    )


def _slug(recipe: str) -> str:
    return recipe.replace("=", "").replace(", ", "-").translate(str.maketrans("", "", "()' "))


def _values(row: Evidence, difference: Difference | None) -> dict[str, Any]:
    parameters = row.records[0].result["parameters"]
    (target,) = estimates(row.areas, row.domains)
    values: dict[str, Any] = {
        "backbone": row.labels["backbone"],
        "method": row.title,
        "port": row.labels["port"],
        "seeds": len(row.seeds),
        "adapter_parameters": sum(parameters.get(group, 0) for group in ("adapter", "backbone")),
        "source_val_miou": row.mean(SOURCE_VAL),
        **{f"{domain}_miou": row.mean(domain) for domain in row.target_domains},
        "target_miou": row.mean(),
        "target_low": target.low,
        "target_high": target.high,
        "target_macc": row.mean(score="macc"),
        "last_target_miou": row.mean(selection="last"),
        "oracle_target_miou": row.mean(selection="oracle"),
        "oracle_gap": row.mean(selection="oracle") - row.mean(),
    }
    if difference:
        values |= {
            "difference": difference.mean,
            "difference_low": difference.low,
            "difference_high": difference.high,
            "p": difference.p,
            "p_holm": difference.p_holm,
            "significant": difference.significant,
        }
    return values


def _display(values: pd.DataFrame, sensors: Mapping[str, str]) -> pd.DataFrame:
    domains = [c.removesuffix("_miou") for c in values.columns if c.endswith("_miou")]
    domains = [d for d in domains if d not in ("source_val", TARGET, "last_target", "oracle_target")]
    shown = pd.DataFrame({"Method": values["method"]})
    if values["backbone"].nunique() > 1:
        shown.insert(0, "Backbone", values["backbone"])
    shown["Params"] = [_count(n) for n in values["adapter_parameters"]]
    shown["Source"] = values["source_val_miou"].map("{:.1f}".format)
    for domain in domains:
        shown[sensors[domain]] = values[f"{domain}_miou"].map("{:.1f}".format)
    shown["Target"] = [
        f"{row['target_miou']:.1f}{_brackets(row['target_low'], row['target_high'], '.1f')}"
        for row in values.to_dict("records")
    ]
    if "difference" in values:
        shown["Δ frozen"] = [_signed(row) for row in values.to_dict("records")]
    shown["Last"] = values["last_target_miou"].map("{:.1f}".format)
    shown["Oracle"] = values["oracle_target_miou"].map("{:.1f}".format)
    shown["Gap"] = values["oracle_gap"].map("{:.1f}".format)
    return shown.assign(n=values["seeds"].astype(str))


def _signed(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["difference"]):
        return ""
    mark = "*" if row["significant"] is True else ""
    return f"{row['difference']:+.1f}{_brackets(row['difference_low'], row['difference_high'], '+.1f')}{mark}"


def _brackets(low: float, high: float, form: str) -> str:
    return "" if pd.isna(low) else f" [{low:{form}}, {high:{form}}]"


def _count(number: int) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e3:.1f} k" if number else "0"


def _caption(rows: list[Evidence], inputs: Mapping[str, Any]) -> str:
    seeds = sorted({len(row.seeds) for row in rows})
    length = inputs["protocol"]["steps"]
    recipe = f"{length} steps" if length else f"{inputs['protocol']['epochs']} epochs"
    return (
        f"mIoU in %, pooled over all target tiles; columns up to Δ at the checkpoint chosen on held-out source scenes. "
        f"n = seeds ({', '.join(map(str, seeds))}); {recipe}. Brackets: 95 % intervals over {len(rows[0].domains)} "
        f"target scenes and, where n > 1, seeds. Δ frozen is paired over common seeds; * marks p < 0.05, corrected by "
        f"Holm's method for all rows of the table with {MIN_SEEDS} seeds and {MIN_SCENES} scenes or more. Last: final "
        f"weights. Oracle: checkpoint chosen on the target; Gap: what that choice adds. Params: trainable, without the "
        f"head. {audit_text(record for row in rows for record in row.records)}"
    )
