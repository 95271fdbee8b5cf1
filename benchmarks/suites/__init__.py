"""Suites: named lists of cells, and the tables made of them. A cell is one entry of a table before seeds."""

from benchmarks.suites.base import Cell, Suite, cell_at, cells_of
from benchmarks.suites.ours import OURS, SMOKE
from benchmarks.suites.paper import PAPER_SUITES

__all__ = ["SUITES", "Cell", "Suite", "cell_at", "cells_of"]

SUITES: dict[str, Suite] = {suite.name: suite for suite in (SMOKE, *PAPER_SUITES, *OURS)}
