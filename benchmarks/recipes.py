"""The recipes: task name to `module:NAME`, imported when one is needed."""

from __future__ import annotations

import importlib

from benchmarks.prepared.recipe import Recipe

RECIPES: dict[str, str] = {
    "fbp_cr": "benchmarks.datasets.fbp_cr:RECIPE",
    "fbp_cs": "benchmarks.datasets.fbp_official:RECIPE",
    "flair_cr": "benchmarks.datasets.flair:RECIPE",
    "loveda_r2u": "benchmarks.datasets.loveda:RECIPE",
    "oem_cc": "benchmarks.datasets.oem:RECIPE",
    "potsdam2vaihingen": "benchmarks.datasets.isprs:RECIPE",
    "whu_ohs_cr": "benchmarks.datasets.ohs:RECIPE",
}


def load_recipe(task: str) -> Recipe:
    """The recipe of a task of `RECIPES`."""
    module, _, name = RECIPES[task].partition(":")
    recipe = getattr(importlib.import_module(module), name)
    assert isinstance(recipe, Recipe), RECIPES[task]
    return recipe
