"""What records say in a few lines: methods against the baseline, source to target, checkpoints. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.counts import counted
from harness.evidence import Evidence, baseline_of, rows_of
from harness.leaderboard import Board, build_boards
from harness.records import Record
from harness.rows import current, table_of
from harness.split import SOURCE_VAL
from harness.statistics import MIN_SCENES, MIN_SEEDS, Difference, compare_pairs
from harness.status import Status
from harness.trial import special

ORACLE = "oracle"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One method against the baseline of its backbone, over the tables in which both stand.

    Args:
        title: the method, with options and controls that are not the default.
        variant: it has any.
        mean: of the differences of target mIoU, in points.
        least: the smallest of them.
        most: the largest.
        better: in how many tables it is significantly better, by the stars of the tables.
        worse: significantly worse.
        open: neither, though seeds and scenes are enough to tell.
        untested: too few of them.
    """

    title: str
    variant: bool
    mean: float
    least: float
    most: float
    better: int
    worse: int
    open: int
    untested: int

    @property
    def tables(self) -> int:
        """In how many tables it stands beside the baseline."""
        return self.better + self.worse + self.open + self.untested


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What is to be learnt: a verdict per method, best mean first, and sentences."""

    verdicts: tuple[Verdict, ...] = ()
    sentences: tuple[str, ...] = ()


def lessons_of(records: Iterable[Record], scale: str) -> Lessons:
    """Sum records up, at the checkpoints chosen on source validation; nothing where none is done.

    Args:
        records: of one results folder.
        scale: its name.
    """
    done = [record for record in current(records) if record.status is Status.DONE]
    if not done:
        return Lessons()
    tables: dict[str, list[Record]] = {}
    for record in done:
        tables.setdefault(table_of(record.inputs), []).append(record)
    rows = [rows_of(same) for same in tables.values()]
    verdicts = _verdicts(rows)
    every = [row for same in rows for row in same]
    sentences = [
        *_of_testing(verdicts),
        *_of_board(build_boards(done, scale)[0]),
        _of_shift(every),
        _of_selection(every),
    ]
    return Lessons(verdicts=verdicts, sentences=tuple(sentences))


def _verdicts(tables: Sequence[Sequence[Evidence]]) -> tuple[Verdict, ...]:
    found: dict[tuple[str, bool], list[Difference]] = {}
    for rows in tables:
        baselines = [baseline_of(row, rows) for row in rows]
        compared = compare_pairs([(row, base) if base else None for row, base in zip(rows, baselines, strict=True)])
        for row, difference in zip(rows, compared, strict=True):
            if difference:
                found.setdefault((row.title, bool(special(row.labels))), []).append(difference)
    verdicts = [_verdict(title, variant, each) for (title, variant), each in found.items()]
    return tuple(sorted(verdicts, key=lambda one: -one.mean))


def _verdict(title: str, variant: bool, found: Sequence[Difference]) -> Verdict:
    means = [difference.mean for difference in found]
    return Verdict(
        title=title,
        variant=variant,
        mean=float(np.mean(means)),
        least=min(means),
        most=max(means),
        better=sum(each.significant and each.mean > 0 for each in found),
        worse=sum(each.significant and each.mean < 0 for each in found),
        open=sum(each.eligible and not each.significant for each in found),
        untested=sum(not each.eligible for each in found),
    )


def _of_testing(verdicts: Sequence[Verdict]) -> list[str]:
    tested = sum(each.better + each.worse + each.open for each in verdicts)
    if not verdicts:
        return []
    if not tested:
        return [
            f"No difference to the baseline is tested: that takes {MIN_SEEDS} seeds and {MIN_SCENES} target scenes. "
            f"Read none of them as a finding."
        ]
    told = sum(each.better + each.worse for each in verdicts)
    return [
        f"Of {counted(tested, 'tested difference')} to the baseline {told} can be told from 0 (5 %, corrected within "
        f"each table by Holm's method)."
    ]


def _of_board(board: Board) -> list[str]:
    """The ranks of the board of most tasks and methods."""
    ranking = board.ranking
    if ranking is None:
        return []
    alike = next((last - first for first, last in ranking.cliques if first == 0), 0)
    others = len(ranking.names) - 1
    apart = (
        "no other method is told apart from it"
        if alike == others
        else f"{alike} of the {others} others are not told apart from it"
    )
    return [
        f"Over {counted(ranking.tasks, 'task')} on {board.heading}, {ranking.names[0]} has the best average rank, "
        f"{ranking.ranks[0]:.1f} of {len(ranking.names)}; {apart} (Nemenyi, 5 %)."
    ]


def _of_shift(rows: Sequence[Evidence]) -> str:
    changes: dict[str, list[float]] = {}
    for row in rows:
        task = str(row.records[0].inputs["task"])
        changes.setdefault(task, []).append(row.mean() - row.mean(SOURCE_VAL))
    means = {task: float(np.nanmean(values)) for task, values in changes.items()}
    if len(means) == 1:
        ((task, mean),) = means.items()
        return f"From source to target mIoU changes by {mean:+.1f} points on {task}, on average over the rows."
    most, least = _ends(means)
    return (
        f"From source to target mIoU changes by {np.mean(list(means.values())):+.1f} points on average over "
        f"{len(means)} tasks: {means[most]:+.1f} on {most}, {means[least]:+.1f} on {least}."
    )


def _of_selection(rows: Sequence[Evidence]) -> str:
    gaps = {
        f"{row.title} on {row.labels['backbone']}, {row.records[0].inputs['task']}": row.mean(selection=ORACLE)
        - row.mean()
        for row in rows
    }
    _, most = _ends(gaps)
    return (
        f"Choosing checkpoints on the target would have added {np.mean(list(gaps.values())):.1f} points on average"
        + (f", {gaps[most]:.1f} at most ({most})." if gaps[most] > 0 else ".")
    )


def _ends(values: Mapping[str, float]) -> tuple[str, str]:
    return min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
