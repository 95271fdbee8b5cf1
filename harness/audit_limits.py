"""From which difference on two tiles are not taken for one. Free of imports, so that `--help` can say it."""

from __future__ import annotations

RADIUS = 24
"""Bits of 256 by which near duplicates may differ; unrelated tiles differ by 128, give or take 8."""

SURE_RADIUS = 10
"""Up to here they are taken for certain, beyond for perhaps: of pairs of unrelated tiles with nothing but one straight
coast, 3 in 100,000 come within `RADIUS`, 4 in ten million within this."""

MOST_RADIUS = 64
"""Beyond it unrelated tiles would be taken for duplicates."""

BORDER_RADIUS = 28
"""Bits of 128 by which two sides of one cut may differ; unrelated borders differ by 64, give or take 6."""
