"""The sections with methods over tasks: in short, then average ranks, tests on them, interquartile means."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from harness.counts import counted
from harness.leaderboard import Board, build_boards
from harness.lessons import Verdict, lessons_of
from harness.ranking import Ranking
from harness.ranking_plot import plot_ranking
from harness.report.drawings import SCORE, ladder
from harness.report.findings import Findings
from harness.report.parts import NOTHING, Choice, Choices, Details, Note, Part, Plot, Section, TableView, number, text
from harness.report.plots import canvas, svg


def summary(found: Findings) -> Section:
    """What the records say in a few lines."""
    lessons = lessons_of(found.records, found.scale)
    plain, variants = ([v for v in lessons.verdicts if v.variant == wanted] for wanted in (False, True))
    parts: list[Part] = [_verdicts("Methods against the frozen baseline", plain)] if plain else []
    if variants:
        table = _verdicts("Variants against the frozen baseline", variants)
        parts.append(Details(title=f"{counted(len(variants), 'variant')} with options of their own", parts=[table]))
    parts += [Note(text=sentence) for sentence in lessons.sentences]
    return Section(
        slug="summary",
        title="In short",
        lead=(
            "Every method against the frozen baseline of its backbone, over all tables in which both stand: in how "
            "many it is significantly better or worse (p < 0.05, corrected within the table), tested and not told "
            "apart (open), or not tested for lack of seeds or scenes. Tables weigh alike, however many share a task."
        ),
        parts=parts or [Note(text=NOTHING)],
    )


def _verdicts(caption: str, verdicts: Sequence[Verdict]) -> TableView:
    columns = ["Method", "Mean Δ", "Least", "Most", "Better", "Worse", "Open", "Untested"]
    rows = [
        [
            text(one.title),
            *(number(value, "+.1f") for value in (one.mean, one.least, one.most)),
            *(text(count) for count in (one.better, one.worse, one.open, one.untested)),
        ]
        for one in verdicts
    ]
    return TableView(caption=f"{caption}: Δ of target mIoU in points.", columns=columns, rows=rows)


def ranking(found: Findings) -> Section:
    """Methods over tasks, one board per backbone, data and recipe."""
    boards = build_boards(found.store, found.scale) if found.done else []
    options = [_choice(f"rank{i}", board) for i, board in enumerate(boards)]
    return Section(
        slug="ranking",
        title="Methods over tasks",
        lead=(
            "Target mIoU in % of every method on the tasks that all of them have (mean over seeds, checkpoint chosen "
            "on held-out source scenes), its average rank, 1 for the best, and its interquartile mean (IQM) with a "
            "95 % interval over scenes and seeds. Methods that a bar joins in the diagram are not told apart. A rank "
            "does not say how large a difference is, and these tasks are no sample of all tasks."
        ),
        parts=[Choices(label="Backbone and recipe", options=options)] if options else [Note(text=NOTHING)],
    )


def _choice(slug: str, board: Board) -> Choice:
    rows = []
    for standing in board.standings:
        few, many = standing.seeds
        interval = "" if math.isnan(standing.low) else f" [{standing.low:.1f}, {standing.high:.1f}]"
        scores = (number(standing.miou[task]) for task in board.tasks)
        seeds = text(few if few == many else f"{few}-{many}")
        iqm = text(f"{standing.iqm:.1f}{interval}")
        rows.append([text(standing.title), *scores, number(standing.rank, ".2f"), iqm, text(standing.wins), seeds])
    columns = ["Method", *board.tasks, "Avg. rank", "IQM", "Wins", "Seeds"]
    parts: list[Part] = [TableView(caption=f"{board.heading}: mIoU in %.", columns=columns, rows=rows)]
    parts.append(Note(text=_verdict(board.ranking)))
    dropped = "; ".join(f"{task}: {why}" for task, why in board.dropped.items())
    parts += [
        Note(text=f"{what}: {said}.") for what, said in (("Left out", board.lacks), ("Not counted", dropped)) if said
    ]
    values = {standing.title: dict(standing.miou) for standing in board.standings}
    told = "; ".join(f"{t}: " + ", ".join(f"{k} {v:.1f}" for k, v in by.items()) for t, by in values.items())
    drawn = ladder(values, SCORE, f"Target mIoU in percent by method and task. {told}", slug)
    parts.append(Plot(caption="Target mIoU by task, methods by average rank.", svg=drawn, name=slug))
    if board.ranking:
        parts.append(_diagram(f"{slug}-cd", board.ranking))
    return Choice(title=board.heading, parts=parts)


def _diagram(slug: str, found: Ranking) -> Plot:
    told = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True))
    alt = f"Average ranks over {found.tasks} tasks: {told}. Critical difference {found.critical_difference:.2f}."
    with canvas(slug):
        figure = plot_ranking(found)
        figure.patch.set_alpha(0)
        drawn = Markup(svg(figure, slug, alt).replace("#000000", "currentColor"))
    caption = "Critical-difference diagram: bars join methods whose average ranks are not told apart (Nemenyi, 95 %)."
    return Plot(caption=caption, svg=drawn, name=slug)


def _verdict(found: Ranking | None) -> str:
    if found is None:
        return "One task or one method: nothing to test."
    if math.isnan(found.p):
        return f"Average ranks closer than {found.critical_difference:.2f} are not told apart (Nemenyi, 95 %)."
    p = "< 0.001" if found.p < 0.001 else f"= {found.p:.3f}"
    return (
        f"Friedman's test that all are alike: p {p}. Average ranks closer than {found.critical_difference:.2f} are not "
        f"told apart (Nemenyi, 95 %)."
    )
