"""The cameras of the mirrors' domains, as facts for people: what `data info` and `data show` tell of them."""

from __future__ import annotations

from benchmarks.prepared.manifest import BandFacts, DomainFacts
from benchmarks.synthetic.layout import PIXEL_M
from benchmarks.synthetic.regions import Settings
from benchmarks.synthetic.shift import shifted
from benchmarks.synthetic.spectra import Sensor
from benchmarks.tasks import Shift

_NAMED = 8
"""With more bands, letters would repeat."""


def cameras(settings: Settings, shift: Shift) -> dict[str, tuple[DomainFacts, ...]]:
    """Of each domain every camera that its scenes may be taken by, each once.

    Args:
        settings: the domains, the source first.
        shift: how far the targets lie from the source.
    """
    source = next(iter(settings.values()))
    found = {}
    for name, target in settings.items():
        count = max(len(source), len(target))
        pairs = [(source[i % len(source)], target[i % len(target)]) for i in range(count)]
        taken = target if target is source else [shifted(one, other, shift) for one, other in pairs]
        facts = [
            DomainFacts(
                side="source" if target is source else "target",
                sensor=sensor.title,
                gsd_m=round(PIXEL_M / setting.zoom * factor, 2),
                bands=_bands(sensor),
            )
            for setting in taken
            for sensor in setting.sensors
            for factor in setting.pixel_factors
        ]
        found[name] = tuple(dict.fromkeys(facts))
    return found


def _bands(sensor: Sensor) -> tuple[BandFacts, ...]:
    """In the order of the images' bands."""
    many = len(sensor.order) > _NAMED
    return tuple(
        BandFacts(
            name=f"b{number}" if many else _letter(sensor.centres_nm[index]),
            centre_nm=round(sensor.centres_nm[index], 1),
            fwhm_nm=round(sensor.widths_nm[index], 1),
        )
        for number, index in enumerate(sensor.order, 1)
    )


def _letter(centre_nm: float) -> str:
    limits = {500: "B", 600: "G", 700: "R"}
    return next((letter for limit, letter in limits.items() if centre_nm < limit), "NIR")
