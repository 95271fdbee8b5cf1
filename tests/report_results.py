"""A results folder with all that a report has to show: tasks, severities, experts, a hostile name, a failure."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conftest import TINY, run_program

HOSTILE = '<script>alert("x")</script> & $\\alpha$'
"""A method's title that must reach the page as text and nothing else."""

_METHODS = f"""
from dataclasses import dataclass
from types import MappingProxyType

from methods.base import Method
from methods.options import Options


@dataclass(frozen=True, kw_only=True)
class HostileOptions(Options):
    name = "hostile"
    title = {HOSTILE!r}
    paper = "none"
    ports = MappingProxyType({{"default": "inferred"}})


class Hostile(Method):
    Options = HostileOptions


@dataclass(frozen=True, kw_only=True)
class BrokenOptions(Options):
    name = "broken"
    title = "Broken <b>method</b>"
    paper = "none"
    ports = MappingProxyType({{"default": "inferred"}})


class Broken(Method):
    Options = BrokenOptions

    def refine(self, x_BND, layer, depth_BMD=None):
        raise RuntimeError("broken <i>on purpose</i>")
"""


def make_results(smoke: Path, folder: Path) -> Path:
    """A copy of a smoke run with more trials of two steps each beside it."""
    results = Path(shutil.copytree(smoke, folder / "results"))
    file = folder / "mine.py"
    file.write_text(_METHODS)
    run = (*TINY, "--results", results, "--method")
    assert run_program(*run, "frozen", "--method", "lora", "--method", f"{file}:Hostile").exit_code == 0
    assert run_program(*run, "lora", "--seeds", 2).exit_code == 0
    assert run_program(*run, f"{file}:Broken").exit_code == 1
    assert run_program(*run, "frozen", "--task", "loveda_r2u").exit_code == 0
    assert run_program(*run, "frozen", "--method", "lora", "--severity", 0.5).exit_code == 0
    return results
