"""Distributions on the disk, as an installer leaves them: packages beside their metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PARTS = "START = 1.0\n"
METHOD = '''
"""A method spread over two modules."""

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import nn

from methods.base import Method
from methods.options import Options

from .parts import START


@dataclass(frozen=True, kw_only=True)
class GainOptions(Options):
    name = "gain"
    title = "Gain from outside"
    paper = "none"
    ports = MappingProxyType({"default": "author_checked"})

    start: float = START


class Gain(Method):
    Options = GainOptions

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.gain = nn.Parameter(torch.full((spec.blocks, spec.width), options.start))

    def refine(self, x_BND, layer, depth_BMD=None):
        return x_BND * self.gain[layer]
'''
GAIN = {"__init__.py": "", "parts.py": PARTS, "method.py": METHOD}
"""A package with a sound method."""


def install(
    folder: Path,
    points: Mapping[str, str],
    files: Mapping[str, str] | None = None,
    *,
    called: str = "outside",
    version: str = "1.0",
) -> Path:
    """Write a distribution into a folder that stands on the path.

    Args:
        folder: where.
        points: entry points of the group `dgss_bench.methods`: name -> `module:Class`.
        files: its files by path.
        called: its name.
        version: its version.
    """
    for name, text in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    metadata = folder / f"{called}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {called}\nVersion: {version}\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[dgss_bench.methods]", *lines, ""]))
    return folder


def gain(package: str) -> dict[str, str]:
    """The files of `GAIN` in a package of that name; each test needs its own, because Python keeps modules."""
    return {f"{package}/{name}": text for name, text in GAIN.items()}
