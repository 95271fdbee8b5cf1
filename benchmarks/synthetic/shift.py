"""The severity dial: a target domain anywhere between the source and itself, ingredient by ingredient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from benchmarks.synthetic.cover import Shares
from benchmarks.synthetic.domains import Domain
from benchmarks.tasks import INGREDIENTS, Shift

FIELDS: dict[str, tuple[str, ...]] = {
    "sensor": ("sensors", "gain", "band_gain", "snr", "stretch", "gamma"),
    "haze": ("aod", "angstrom", "humidity"),
    "season": ("seasons",),
    "illumination": ("sun_zenith_deg", "sun_azimuth_deg", "sky_view", "glint"),
    "composition": ("covers", "plan"),
    "resolution": ("pixel_factors", "psf_sigma_px", "zoom"),
}
"""The fields of a `Domain` that each ingredient moves; every field but the name belongs to one."""

assert tuple(FIELDS) == INGREDIENTS


def shifted(source: Domain, target: Domain, shift: Shift) -> Domain:
    """The target at a severity: the source's setting at 0, its own at 1, in between a mixture of the two.

    Limits, band centres and widths, and statistics of the layout move linearly; shares of materials mix. Of sensors,
    seasons and pixel sizes each of the target's alternatives mixes with each of the source's.
    """
    moved = {}
    for ingredient, names in FIELDS.items():
        severity = shift.severity if ingredient in shift.ingredients else 0.0
        for name in names:
            moved[name] = _field(name, getattr(source, name), getattr(target, name), severity)
    return replace(target, **moved)


def _field(name: str, source: Any, target: Any, severity: float) -> Any:
    if severity in (0, 1):
        return target if severity else source
    if name in ("sensors", "seasons", "pixel_factors"):
        return tuple(_between(one, other, severity) for other in target for one in source)
    return _between(source, target, severity)


def _between(source: Any, target: Any, severity: float) -> Any:
    """Numbers, tuples of numbers, dataclasses of them, and shares of materials by class."""
    if source == target:
        return source
    if is_dataclass(source) and not isinstance(source, type):
        pairs = {field.name: (getattr(source, field.name), getattr(target, field.name)) for field in fields(source)}
        return replace(source, **{name: _between(*pair, severity) for name, pair in pairs.items()})
    if isinstance(source, str):
        return f"{source} to {target}"
    if isinstance(source, tuple):
        return tuple(_between(one, other, severity) for one, other in zip(source, target, strict=True))
    if isinstance(source, Mapping):
        return {kind: _mixed(source[kind], target[kind], severity) for kind in source}
    return (1 - severity) * source + severity * target


def _mixed(source: Shares, target: Shares, severity: float) -> dict[str, float]:
    """Shares of materials, in percent of both lists, mixed."""
    total, other = sum(source.values()), sum(target.values())
    names = dict.fromkeys([*source, *target])
    return {
        name: (1 - severity) * source.get(name, 0) / total + severity * target.get(name, 0) / other for name in names
    }
