"""The paper's tables and figures as suites, `table1` to `fig8`, and `all`, their union.

Run one with `python run.py --suite table1`; `python run.py plan --suite table1` says beforehand how many trials it has
and how long they may take. The cells are those of the layouts. At the mini scale the ablations run on `fbp_cs` alone
(`at="paper"` in `benchmarks.layouts_paper`), and `all` takes 50 steps of 4 tiles instead of
200 of 8.
"""

from __future__ import annotations

from benchmarks.layouts_paper import PAPER
from benchmarks.suites.base import Suite, cells_of

_TABLES = tuple(
    Suite(
        name=layout.name,
        title=layout.title + ("; mini: fbp_cs alone" if any(column.at for column in layout.columns) else ""),
        cells=cells_of([layout]),
        seeds=3,
        layouts=(layout,),
    )
    for layout in PAPER
)

ALL = Suite(
    name="all",
    title="the paper's tables and figures, one seed; mini: 50 small steps, ablations on fbp_cs alone: not a comparison",
    cells=cells_of(PAPER),
    seeds=1,
    mini={"steps": 50, "batch_size": 4, "evaluations": 2},
    layouts=PAPER,
)

PAPER_SUITES = (ALL, *_TABLES)
