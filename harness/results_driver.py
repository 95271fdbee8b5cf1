"""What `compare` and `leaderboard` do: find the records, work out, show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import screen
from harness.compare import compare, find_sides
from harness.evidence import SELECTIONS
from harness.folders import whole_records
from harness.leaderboard import build_boards
from harness.lookup import find
from harness.screen_results import show_boards, show_comparison


def compare_records(results: Path, scale: str, sides: tuple[str, str], *, task: str, selection: str) -> None:
    """Show two records or rows side by side.

    Raises:
        ValueError: there are no records, or the two cannot be found or compared.
    """
    find("selection", selection, dict.fromkeys(SELECTIONS))
    show_comparison(compare(*find_sides(whole_records(results, scale), *sides, task, selection)))


def rank_methods(
    results: Path, scale: str, *, tasks: Sequence[str], backbones: Sequence[str], selection: str, plot: Path | None
) -> None:
    """Show methods ranked over tasks; write the diagram of the one board there is.

    Raises:
        ValueError: there are no records to rank, or no single ranking to draw.
    """
    find("selection", selection, dict.fromkeys(SELECTIONS))
    store = whole_records(results, scale)
    chosen = [] if "all" in tasks else tasks
    boards = build_boards(store, scale, tasks=chosen, backbones=backbones, selection=selection)
    show_boards(boards)
    if plot:
        from harness.ranking_plot import save_ranking  # matplotlib

        rankings = [board.ranking for board in boards if board.ranking]
        if len(rankings) != 1:
            raise ValueError(
                f"--plot {plot}: {len(rankings)} boards have ranks over several tasks, and a file holds one: "
                f"{'choose with --backbone or --task' if rankings else 'run more tasks or methods first'}"
            )
        save_ranking(rankings[0], plot)
        screen.show_hint("diagram", str(plot))
