"""Named random streams: every ingredient of a scene draws from its own generator, seeded by words.

A stream depends on nothing but its name, so that scenes may be rendered in any order and one ingredient may be changed
without touching the draws of another.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(*names: str | int) -> np.random.Generator:
    """A generator seeded by the SHA-256 of its name, e.g. `stream("fbp_cs", "gf2", 3, "aod")`."""
    digest = hashlib.sha256("\x1f".join(str(name) for name in names).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def draw(limits: tuple[float, float], *names: str | int) -> float:
    """One uniform number between two limits from the stream so named; equal limits return that value."""
    low, high = limits
    return low + (high - low) * float(stream(*names).random())
