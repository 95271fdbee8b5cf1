"""What the user sees of comparisons and rankings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from harness.compare import Comparison, CostLine, Line
from harness.counts import counted
from harness.leaderboard import Board
from harness.lessons import Lessons
from harness.screen import console
from harness.statistics import LEVEL


def show_comparison(comparison: Comparison) -> None:
    """Both sides, the difference of their scores, and what they cost."""
    first, second = comparison.first, comparison.second
    labels, inputs = first.labels, first.records[0].inputs
    heading = f"{inputs['scale']} ({labels['data']}) · {labels['task']}"
    _say("[bold]" + escape(heading + (f" · {labels['recipe']}" if labels["recipe"] else "")) + "[/bold]")
    for letter, side in (("A", first), ("B", second)):
        keys = ", ".join(record.key for record in side.records)
        name = f"{side.title} on {side.labels['backbone']}"
        _say(f"{letter}: {escape(name)} [dim]({keys})[/dim]")
    _say(f"{len(first.seeds)} seed(s), {len(first.scenes)} target scenes, checkpoint: {first.selection}\n")
    table = Table("target, in %", box=box.SIMPLE)
    for column in ("A", "B", "B − A [95 %]", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for lines in (comparison.pooled, comparison.domains, comparison.classes):
        for line in lines:
            table.add_row(
                *_score_cells(line, labels["domains"].get(line.name, line.name)), end_section=line == lines[-1]
            )
    console.print(table)
    costs = Table("cost", box=box.SIMPLE)
    for column in ("A", "B", "B / A"):
        costs.add_column(column, justify="right", no_wrap=True)
    for cost in comparison.costs:
        costs.add_row(*_cost_cells(cost))
    console.print(costs)
    for note in comparison.notes:
        _say(f"[yellow]note:[/yellow] {escape(note)}")
    _say(
        "[dim]Paired over scenes and seeds. mIoU of domains and IoU of classes: p corrected by Holm's method within "
        "each group; mIoU and mAcc as they are. No interval: labelled in too few scenes.[/dim]"
    )


def show_boards(boards: Sequence[Board]) -> None:
    """Every board, its tests, and what was left out of it."""
    for board in boards:
        _show_board(board)


def show_lessons(lessons: Lessons) -> None:
    """Methods against the baseline over several tables, and what else there is to be learnt."""
    plain = [verdict for verdict in lessons.verdicts if not verdict.variant]
    shown = plain if len(plain) > 1 else lessons.verdicts
    if any(verdict.tables > 1 for verdict in shown):
        table = Table("against frozen", box=box.SIMPLE)
        for column in ("mean Δ", "least, most", "better", "worse", "open", "untested"):
            table.add_column(column, justify="right", no_wrap=True)
        for one in shown:
            counts = (one.better, one.worse, one.open, one.untested)
            span = escape(f"{one.least:+.1f}, {one.most:+.1f}")
            table.add_row(escape(one.title), f"{one.mean:+.1f}", span, *map(str, counts))
        console.print(table)
        rest = len(lessons.verdicts) - len(shown)
        _say(
            "[dim]Δ: target mIoU in points, over the tables in which both stand. Better, worse: tables in which the "
            "difference is significant; open: tested, and not told apart."
            + (f" {counted(rest, 'variant')} with options of their own: in the report." if rest else "")
            + "[/dim]"
        )
    for sentence in lessons.sentences:
        _say(f"- {escape(sentence)}")


def _show_board(board: Board) -> None:
    _say(f"[bold]{escape(board.heading)}[/bold]: {escape(', '.join(board.tasks))}")
    table = Table("method", box=box.SIMPLE)
    for column in ("rank", "IQM [95 %]", "wins", "seeds", *(board.tasks if console.width >= 150 else ())):
        table.add_column(column, justify="right", no_wrap=True)
    for standing in board.standings:
        few, many = standing.seeds
        scores = [f"{value:.1f}" for value in standing.miou.values()] if console.width >= 150 else []
        table.add_row(
            escape(standing.title),
            _number(standing.rank, ".2f"),
            f"{standing.iqm:.1f}{_brackets(standing.low, standing.high, '.1f')}",
            str(standing.wins),
            str(few) if few == many else f"{few}-{many}",
            *scores,
        )
    console.print(table)
    _say(_verdict(board))
    if board.missing:
        _say(f"[yellow]left out:[/yellow] {escape(board.lacks)}")
    for task, why in board.dropped.items():
        _say(f"[yellow]not counted:[/yellow] {escape(f'{task}: {why}')}")
    console.print()


def _verdict(board: Board) -> str:
    """What the ranks say, in a sentence or two."""
    ranking = board.ranking
    mean = "IQM: mean of the target mIoU" + (" without the best and the worst quarter" if len(board.tasks) > 3 else "")
    if ranking is None:
        return f"{mean}. One task or one method: nothing to test."
    shown = "every task ranks them alike" if math.isinf(ranking.f) else f"F = {ranking.f:.2f}"
    test = "" if math.isnan(ranking.p) else f"Friedman's test that all are alike: p {_equals(ranking.p)} ({shown}). "
    distance = ranking.critical_difference
    whole = len(ranking.names) - 1
    reach = " No ranks lie so far apart." if (0, whole) in ranking.cliques else ""
    level = f"{100 * LEVEL:.0f} %"
    return f"{mean}. {test}Average ranks closer than {distance:.2f} (Nemenyi, {level}) are not told apart.{reach}"


def _score_cells(line: Line, name: str) -> list[str]:
    found = line.difference
    p = found.p if math.isnan(found.p_holm) else found.p_holm
    between = "" if math.isnan(found.mean) else f"{found.mean:+.1f}{_brackets(found.low, found.high, '+.1f')}"
    return [escape(name), _number(line.first, ".1f"), _number(line.second, ".1f"), between, _p(p)]


def _cost_cells(cost: CostLine) -> list[str]:
    form = ",.0f" if max(cost.first, cost.second) >= 100 else ".1f"
    ratio = "" if cost.ratio is None else f"{cost.ratio:.2f}"
    return [cost.name, f"{cost.first:{form}}", f"{cost.second:{form}}", ratio]


def _brackets(low: float, high: float, form: str) -> str:
    return "" if math.isnan(low) else escape(f" [{low:{form}}, {high:{form}}]")


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else f"{value:{form}}"


def _equals(p: float) -> str:
    return _p(p) if p < 0.001 else f"= {_p(p)}"


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)
