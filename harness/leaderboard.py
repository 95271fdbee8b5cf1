"""Rows of several tasks ranked: one board per backbone, data, recipe and protocol version. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.evidence import Evidence, rows_of
from harness.ranking import Ranking, interquartile_interval, interquartile_mean, rank, wins
from harness.records import Record
from harness.rows import current, recipe_of, row_of, table_of
from harness.status import Status
from harness.trial import digest
from methods.options import nearest


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One method on a board.

    Args:
        title: the method, with options and controls that are not the default.
        rank: average over the tasks; NaN if it is alone.
        iqm: interquartile mean of the target mIoU over tasks, in percent.
        low: lower end of its 95 % interval.
        high: upper end.
        wins: number of tasks on which it is best.
        seeds: fewest and most seeds on a task.
        miou: target mIoU by task, mean over seeds.
    """

    title: str
    rank: float
    iqm: float
    low: float
    high: float
    wins: int
    seeds: tuple[int, int]
    miou: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Board:
    """Methods ranked over tasks on which all of them were run.

    Args:
        heading: scale, data, backbone, recipe.
        tasks: the tasks that count.
        standings: best average rank first.
        ranking: tests on the ranks; None below two tasks or two methods.
        missing: methods left out, and the tasks each lacks.
        dropped: tasks that do not count, and why.
    """

    heading: str
    tasks: tuple[str, ...]
    standings: tuple[Standing, ...]
    ranking: Ranking | None
    missing: Mapping[str, tuple[str, ...]]
    dropped: Mapping[str, str]

    @property
    def lacks(self) -> str:
        """Who was left out for which tasks, in words; those who lack the same together."""
        by_tasks: dict[tuple[str, ...], list[str]] = {}
        for title, tasks in sorted(self.missing.items()):
            by_tasks.setdefault(tasks, []).append(title)
        return "; ".join(
            f"{', '.join(titles)} {'lacks' if len(titles) == 1 else 'lack'} {', '.join(tasks)}"
            for tasks, titles in by_tasks.items()
        )


def build_boards(
    records: Iterable[Record],
    scale: str,
    *,
    tasks: Sequence[str] = (),
    backbones: Sequence[str] = (),
    selection: str = "source_val",
) -> list[Board]:
    """All boards, those of most tasks and methods first.

    Args:
        records: every record of a results folder.
        scale: its name, for the headings.
        tasks: these tasks count; empty for the largest set of tasks shared by several methods.
        backbones: only these; empty for all.
        selection: `source_val`, `last` or `oracle`.

    Raises:
        ValueError: nothing was run to its end, or none of it is of such a task or backbone.
    """
    done = [record for record in current(records) if record.status is Status.DONE]
    if not done:
        raise ValueError("no trial has ended well in these results: run a suite first")
    for option, name, wanted in (("--task", "task", tasks), ("--backbone", "backbone", backbones)):
        known = sorted({record.inputs[name] for record in done})
        for value in wanted:
            if value not in known:
                raise ValueError(f"{option} {value}: no record is of it{nearest(value, known)}")
    groups: dict[str, list[Record]] = {}
    for record in done:
        if not backbones or record.inputs["backbone"] in backbones:
            groups.setdefault(_group(record.inputs), []).append(record)
    boards = [_board(same, scale, tasks, selection) for same in groups.values()]
    found = [board for board in boards if board.standings]
    if not found:
        raise ValueError(f"--task {', '.join(tasks)}: no method was run on all of these tasks under one recipe")
    return sorted(found, key=lambda board: (-len(board.tasks), -len(board.standings), board.heading))


def _group(inputs: Mapping[str, Any]) -> str:
    """What must not be mixed: kind of data, recipe, head, versions, scale, backbone."""
    names = ("data", "protocol_version", "scale", "backbone")
    return digest([*(inputs[name] for name in names), inputs["head"], recipe_of(inputs), inputs.get("shift", {})])


def _board(records: Sequence[Record], scale: str, wanted: Sequence[str], selection: str) -> Board:
    newest, dropped = _newest(records)
    # one evidence per method and task
    rows: dict[tuple[str, ...], dict[str, Evidence]] = {}
    for task, same in newest.items():
        for row in rows_of(same, selection):
            rows.setdefault(row_of(row.records[0].inputs, row.labels), {})[task] = row
    counted = tuple(wanted) or _largest([frozenset(by_task) for by_task in rows.values()])
    dropped |= {
        task: "left out by --task" if wanted else "too few of the methods were run on it"
        for task in sorted(newest)
        if task not in counted
    }
    within = [by_task for by_task in rows.values() if by_task.keys() >= set(counted)]
    missing = {
        next(iter(by_task.values())).title: tuple(task for task in counted if task not in by_task)
        for by_task in rows.values()
        if by_task.keys() & set(counted) and not by_task.keys() >= set(counted)
    }
    labels = records[0].result["labels"]
    heading = " · ".join(filter(None, (f"{scale} ({labels['data']})", labels["backbone"], labels["recipe"])))
    standings, ranking = _standings(within, counted)
    return Board(heading=heading, tasks=counted, standings=standings, ranking=ranking, missing=missing, dropped=dropped)


def _newest(records: Sequence[Record]) -> tuple[dict[str, list[Record]], dict[str, str]]:
    """By task the records of its newest data and version; and which tasks have others."""
    editions: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        editions.setdefault(record.inputs["task"], {}).setdefault(table_of(record.inputs), []).append(record)
    newest = {
        task: max(several.values(), key=lambda same: max(str(record.run["finished"]) for record in same))
        for task, several in sorted(editions.items())
    }
    return newest, {
        f"older data of {task}": f"{len(several) - 1} edition(s), never mixed with the newest"
        for task, several in editions.items()
        if len(several) > 1
    }


def _largest(run: Sequence[frozenset[str]]) -> tuple[str, ...]:
    """The tasks of the block of tasks x methods that gives Friedman's test most freedom; of all, if none gives any."""
    choices = {tuple(sorted(one & other)) for one in run for other in run if one & other}

    def worth(tasks: tuple[str, ...]) -> tuple[int, int, int, tuple[str, ...]]:
        methods = sum(mine.issuperset(tasks) for mine in run)
        return (len(tasks) - 1) * (methods - 1), methods, len(tasks), tasks

    return max(choices, key=worth)


def _standings(
    within: Sequence[Mapping[str, Evidence]], tasks: Sequence[str]
) -> tuple[tuple[Standing, ...], Ranking | None]:
    if not within:
        return (), None
    miou_TM = np.array([[by_task[task].mean() for by_task in within] for task in tasks])
    titles = [next(iter(by_task.values())).title for by_task in within]
    ranking = rank(miou_TM, titles) if len(within) > 1 else None
    averages = dict(zip(ranking.order, ranking.ranks, strict=True)) if ranking else {}
    iqm, won = interquartile_mean(miou_TM), wins(miou_TM)
    found = []
    for m, by_task in enumerate(within):
        chosen = {task: by_task[task] for task in tasks}
        low, high = interquartile_interval(chosen)
        numbers = [len(row.seeds) for row in chosen.values()]
        found.append(
            Standing(
                title=titles[m],
                rank=averages.get(m, np.nan),
                iqm=float(iqm[m]),
                low=low,
                high=high,
                wins=won[m],
                seeds=(min(numbers), max(numbers)),
                miou=dict(zip(tasks, miou_TM[:, m].tolist(), strict=True)),
            )
        )
    ordered = [found[m] for m in ranking.order] if ranking else found
    return tuple(ordered), ranking if len(tasks) > 1 else None
