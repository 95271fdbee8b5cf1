"""A suite's tables in its own layouts: built, written and shown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.folders import scale_folder, whole_records
from harness.plan import Request
from harness.records import Record, writable
from harness.suite_files import find_suite
from harness.suite_screen import show_suite_tables
from harness.trial import Trial

if TYPE_CHECKING:  # pandas costs half a second, and only tables need it
    from harness.paper_tables import PaperTable, Style


def rebuild_suite_tables(request: Request, selection: str, published: bool | None, results: Path) -> None:
    """Write and show the tables of a suite in its own layouts, from records alone.

    Args:
        request: the suite, its scale and settings.
        selection: the rule that chose the checkpoints, or `all`.
        published: whether the paper's numbers stand beside ours; None for: at the paper's scale.
        results: folder of all scales.

    Raises:
        ValueError: there are no records, or the suite has no tables of its own, or an unknown name or rule.
    """
    find_suite(request.suite)
    from harness.paper_tables import Style  # pandas

    style = Style(selection=selection, published=published)
    folder = scale_folder(results, request.scale)
    tables, paths = write_suite_tables(whole_records(results, request.scale), folder, request, style)
    if not tables:
        raise ValueError(
            f"suite {request.suite} has no table of its own: `tables` without --suite builds those of tasks"
        )
    show_suite_tables(tables, paths, folder / "tables")


def write_suite_tables(
    records: Iterable[Record],
    folder: Path,
    request: Request,
    style: Style | None = None,
    planned: Iterable[Trial] = (),
) -> tuple[list[PaperTable], list[Path]]:
    """Build and write the tables of a suite in its own layouts; their Markdown files come back with them."""
    from harness.paper_tables import Style, build_paper_tables, write_paper_tables  # pandas

    tables = build_paper_tables(records, request, style or Style(), planned)
    if not tables:
        return [], []
    with writable(folder / "tables"):
        return tables, write_paper_tables(tables, folder / "tables" / find_suite(request.suite)[0].name)
