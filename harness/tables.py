"""Tables from records alone: one per task, data and recipe; Markdown, LaTeX and CSV.

A recipe is the protocol without its controls: records of different recipes never share a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.audit_status import audit_text
from harness.metrics import Bootstrap, Interval, by_scene, interval
from harness.records import Record
from harness.rows import current, row_of, table_of
from harness.split import SOURCE_VAL, TARGET
from harness.status import Status
from harness.trial import Trial, special

MIN_SEEDS, MIN_SCENES = 3, 10
"""Below these numbers no difference is marked as significant."""


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


@dataclass(frozen=True, kw_only=True)
class _Row:
    """The records of one method variant, one per seed, and their areas of scenes [seeds, scenes, K, 3]."""

    records: list[Record]
    domains: list[str]
    areas: np.ndarray[Any, np.dtype[np.int64]] = field(repr=False)


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
        alignment = ["left", *["right"] * (len(table.display.columns) - 1)]
        markdown = table.display.to_markdown(index=False, disable_numparse=True, colalign=alignment)
        path = folder / f"{table.name}.md"
        path.write_text(f"# {table.heading}\n\n{markdown}\n\n{table.caption}\n", encoding="utf-8")
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
    rows = _rows(records)
    values = pd.DataFrame([_values(row, _baseline_of(row, rows)) for row in rows])
    name = "-".join(filter(None, (inputs["task"], labels["data"], _slug(labels["recipe"]))))
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


def _rows(records: list[Record]) -> list[_Row]:
    """One row per name, its records by seed."""
    named: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        named.setdefault(row_of(record.inputs, record.result["labels"]), []).append(record)
    rows = []
    for same in named.values():
        same.sort(key=lambda record: int(record.inputs["seed"]))
        domains, areas = _target_scenes(same)
        rows.append(_Row(records=same, domains=domains, areas=areas))
    return sorted(rows, key=_order)


def _order(row: _Row) -> tuple[Any, ...]:
    inputs, labels = row.records[0].inputs, row.records[0].result["labels"]
    backbone, controls, method, options = row_of(inputs, labels)
    return (backbone, controls, not labels["baseline"], method, options)


def _baseline_of(row: _Row, rows: list[_Row]) -> _Row | None:
    """The baseline on the same backbone, without controls."""
    for other in rows:
        labels = other.records[0].result["labels"]
        same = labels["backbone"] == row.records[0].result["labels"]["backbone"]
        if same and labels["baseline"] and not labels["controls"] and other is not row:
            return other
    return None


def _target_scenes(records: list[Record]) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    """Areas at the `source_val` selection, summed over the tiles of each target scene."""
    per_seed = []
    names: list[str] = []
    for record in records:
        tiles = record.result["tiles"]
        step = record.result["selections"]["source_val"]["step"]
        areas = record.arrays[f"areas/{step}"]
        kept = [i for i, domain in enumerate(tiles["domain"]) if domain != SOURCE_VAL]
        names, summed = by_scene(areas[kept], [f"{tiles['domain'][i]}/{tiles['scene'][i]}" for i in kept])
        per_seed.append(summed)
    return [name.partition("/")[0] for name in names], np.stack(per_seed)


def _values(row: _Row, baseline: _Row | None) -> dict[str, Any]:
    first = row.records[0]
    labels = first.result["labels"]
    extra = special(labels)
    bootstrap = Bootstrap(row.domains, len(row.records))
    replicates = bootstrap.replicates(row.areas)
    target = interval(_mean(row, "source_val", TARGET), replicates)
    domains = [name for name in first.result["selections"]["last"]["scores"] if name not in (SOURCE_VAL, TARGET)]
    values: dict[str, Any] = {
        "backbone": labels["backbone"],
        "method": labels["method"] + (f" ({extra})" if extra else ""),
        "port": labels["port"],
        "seeds": len(row.records),
        "adapter_parameters": sum(first.result["parameters"].get(group, 0) for group in ("adapter", "backbone")),
        "source_val_miou": _mean(row, "source_val", SOURCE_VAL),
        **{f"{domain}_miou": _mean(row, "source_val", domain) for domain in domains},
        "target_miou": target.mean,
        "target_low": target.low,
        "target_high": target.high,
        "target_macc": _mean(row, "source_val", TARGET, "macc"),
        "last_target_miou": _mean(row, "last", TARGET),
        "oracle_target_miou": _mean(row, "oracle", TARGET),
        "oracle_gap": _mean(row, "oracle", TARGET) - target.mean,
    }
    if baseline and (difference := _difference(row, baseline)):
        values |= {
            "difference": difference.mean,
            "difference_low": difference.low,
            "difference_high": difference.high,
            "significant": _significant(row, baseline, difference),
        }
    return values


def _mean(row: _Row, selection: str, domain: str, score: str = "miou") -> float:
    found = [record.result["selections"][selection]["scores"][domain][score] for record in row.records]
    return float(np.mean([np.nan if value is None else value for value in found]))


def _difference(row: _Row, baseline: _Row) -> Interval | None:
    """Paired difference to the baseline over the seeds both have; None without a common seed or equal scenes."""
    seeds = _common_seeds(row, baseline)
    if not seeds or baseline.domains != row.domains:
        return None
    mine, theirs = _only(row, seeds), _only(baseline, seeds)
    bootstrap = Bootstrap(row.domains, len(seeds))
    replicates = bootstrap.replicates(mine.areas) - bootstrap.replicates(theirs.areas)
    return interval(_mean(mine, "source_val", TARGET) - _mean(theirs, "source_val", TARGET), replicates)


def _common_seeds(row: _Row, other: _Row) -> list[int]:
    return sorted({r.inputs["seed"] for r in row.records} & {r.inputs["seed"] for r in other.records})


def _only(row: _Row, seeds: list[int]) -> _Row:
    kept = [i for i, record in enumerate(row.records) if record.inputs["seed"] in seeds]
    return _Row(records=[row.records[i] for i in kept], domains=row.domains, areas=row.areas[kept])


def _significant(row: _Row, baseline: _Row, difference: Interval) -> bool:
    enough = len(_common_seeds(row, baseline)) >= MIN_SEEDS and len(row.domains) >= MIN_SCENES
    return enough and (difference.low > 0 or difference.high < 0)


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
        f"{row.target_miou:.1f} [{row.target_low:.1f}, {row.target_high:.1f}]" for row in values.itertuples()
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
    return f"{row['difference']:+.1f} [{row['difference_low']:+.1f}, {row['difference_high']:+.1f}]{mark}"


def _count(number: int) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e3:.1f} k" if number else "0"


def _caption(rows: list[_Row], inputs: Mapping[str, Any]) -> str:
    seeds = sorted({len(row.records) for row in rows})
    scenes = len(rows[0].domains)
    length = inputs["protocol"]["steps"]
    recipe = f"{length} steps" if length else f"{inputs['protocol']['epochs']} epochs"
    return (
        f"mIoU in %, pooled over all target tiles; columns up to Δ at the checkpoint chosen on held-out source scenes. "
        f"n = seeds ({', '.join(map(str, seeds))}); {recipe}. Brackets: 95 % bootstrap over {scenes} target scenes and "
        f"seeds; Δ frozen is paired over common seeds, * marks an interval without 0 (from {MIN_SEEDS} seeds and "
        f"{MIN_SCENES} scenes on). Last: final weights. Oracle: checkpoint chosen on the target; Gap: what that choice "
        f"adds. Params: trainable, without the head. {audit_text(record for row in rows for record in row.records)}"
    )
