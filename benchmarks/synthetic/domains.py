"""What makes a domain, and those of the cross-sensor task: a source, three targets, and a wide one to pretrain on.

Every ingredient of the shift is one field, so that `dataclasses.replace(SOURCE, aod=(0.5, 0.5))` shifts the haze and
nothing else. All values are synthetic; the names of sensors say whose bands are imitated, not whose images these are.

Calibrated once so that the targets hurt but are not hopeless: a Gaussian classifier of single pixels, trained on 24
source scenes, scores 51 mIoU on other source scenes and 38, 45 and 39 on the targets. Season and sun weigh most, the
bands hardly at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from benchmarks.synthetic.cover import ROOFS, SEASONS, STANDING, Covers, Season
from benchmarks.synthetic.layout import BUILDING, Plan
from benchmarks.synthetic.spectra import SENSORS, Sensor

Limits = tuple[float, float]
"""Limits of a number drawn per scene; equal limits fix it."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """How scenes come about; from `sensors`, `seasons` and `pixel_factors` one is drawn per scene.

    Args:
        name: what to call it.
        sensors: cameras, all with as many bands.
        seasons: covers of the classes that change through the year.
        aod: aerosol optical depth at 550 nm, drawn on a logarithmic scale.
        angstrom: Angstrom exponent of the aerosol.
        sun_zenith_deg: sun's angle from the zenith.
        sun_azimuth_deg: sun's direction, clockwise from the image's top.
        sky_view: share of the sky that a shadowed pixel sees.
        glint: sky and sun reflected by water, added to its reflectance.
        gain: error of the sensor's calibration, common to all bands.
        band_gain: error of calibration per band, a spectral tilt.
        humidity: of the gases that absorb in narrow bands; None leaves them out, as broad bands hardly feel them.
        gamma: exponent's inverse of the tone curve after the stretch; 1 for none.
        stretch: 0 quantises with a fixed gain, 1 stretches each band of a scene between its 2nd and 98th percentile,
            which depend on what the scene contains; delivered 8-bit products lie somewhere in between.
        psf_sigma_px: width of the Gaussian point spread.
        pixel_factors: sizes of the sensor's pixel over the grid's.
        snr: signal-to-noise ratio of a bright pixel.
        covers: materials of the classes that know no season.
        plan: statistics of the layout.
        zoom: enlarges the layout; a pixel is `PIXEL_M` / zoom metres wide.
    """

    name: str
    sensors: tuple[Sensor, ...]
    seasons: tuple[Season, ...]
    aod: Limits
    angstrom: Limits = (1.1, 1.4)
    sun_zenith_deg: Limits
    sun_azimuth_deg: Limits = (120.0, 170.0)
    sky_view: Limits = (0.75, 0.95)
    glint: Limits = (0.0, 0.01)
    gain: Limits = (0.97, 1.03)
    band_gain: Limits = (0.98, 1.02)
    humidity: Limits | None = None
    gamma: Limits = (1.0, 1.0)
    stretch: Limits = (0.4, 0.4)
    psf_sigma_px: Limits = (0.5, 0.6)
    pixel_factors: tuple[float, ...] = (1.0,)
    snr: Limits = (90.0, 130.0)
    covers: Covers = field(default_factory=lambda: dict(STANDING))
    plan: Plan = field(default_factory=Plan)
    zoom: float = 1.0


def sensors(*names: str) -> tuple[Sensor, ...]:
    """The cameras of those names."""
    return tuple(SENSORS[name] for name in names)


def seasons(*names: str) -> tuple[Season, ...]:
    """The seasons of those names."""
    return tuple(SEASONS[name] for name in names)


SOURCE = Domain(
    name="gf2",
    sensors=sensors("gf2"),
    seasons=seasons("summer"),
    aod=(0.12, 0.25),
    sun_zenith_deg=(28.0, 38.0),
)
"""GF-2's bands in summer, clear air, high sun."""

PLANETSCOPE = Domain(
    name="planetscope",
    sensors=sensors("dove", "dove_r"),
    seasons=seasons("autumn"),
    aod=(0.08, 0.2),
    sun_zenith_deg=(42.0, 50.0),
    gain=(0.95, 1.1),
    band_gain=(0.95, 1.05),
    snr=(45.0, 70.0),
    plan=Plan(parcel_mix=(0.4, 0.3, 0.22, 0.08), buildings=(3.5, 7.0)),
)
"""PlanetScope's bands, either generation, in autumn: harvested fields, lower sun, more noise."""

GF1 = Domain(
    name="gf1",
    sensors=sensors("gf1"),
    seasons=seasons("spring"),
    aod=(0.2, 0.35),
    sun_zenith_deg=(34.0, 44.0),
    gain=(1.08, 1.2),
    pixel_factors=(1.5,),
    psf_sigma_px=(0.6, 0.7),
    covers={**STANDING, BUILDING: {**ROOFS, "blue painted steel": 0.25, "red clay tile": 0.1}},
    plan=Plan(rivers=0.7, ponds=0.45),
)
"""GF-1's bands in spring, another calibration, more water; coarser, if not by the real factor of two."""

SENTINEL2 = Domain(
    name="sentinel2",
    sensors=sensors("sentinel2"),
    seasons=seasons("spring", "summer"),
    aod=(0.42, 0.58),
    angstrom=(0.9, 1.3),
    sun_zenith_deg=(50.0, 56.0),
    glint=(0.0, 0.02),
    pixel_factors=(1.33,),
    psf_sigma_px=(0.55, 0.68),
    plan=Plan(buildings=(4.0, 7.5), roads=(0.8, 1.3)),
)
"""Sentinel-2's bands through haze under a low sun; coarser, if not by the real factor of two and a half."""

TARGETS = (PLANETSCOPE, GF1, SENTINEL2)
"""The target domains of the task, in order."""

DOMAINS = {domain.name: domain for domain in (SOURCE, *TARGETS)}
"""The cross-sensor task's domains by name."""

RANDOM = Domain(
    name="random",
    sensors=sensors("gf2", "dove", "dove_r", "sentinel2"),
    seasons=seasons("spring", "summer", "autumn", "winter"),
    aod=(0.05, 0.9),
    angstrom=(0.8, 1.6),
    sun_zenith_deg=(20.0, 65.0),
    sun_azimuth_deg=(90.0, 270.0),
    sky_view=(0.7, 1.0),
    glint=(0.0, 0.03),
    gain=(0.8, 1.25),
    band_gain=(0.95, 1.05),
    stretch=(0.0, 0.8),
    psf_sigma_px=(0.45, 0.7),
    pixel_factors=(1.0, 1.33, 2.0, 2.5),
    snr=(40.0, 150.0),
    plan=Plan(parcel_px=(21.0, 48.0), mix_spread=0.8, forest_cover=(0.05, 0.5), buildings=(1.0, 8.0)),
)
"""Wide ranges of everything, for pretraining; no domain of the task."""

CANONICAL = replace(
    RANDOM,
    name="canonical",
    sensors=sensors("gf2"),
    seasons=seasons("summer"),
    aod=(0.1, 0.1),
    angstrom=(1.2, 1.2),
    sun_zenith_deg=(20.0, 20.0),
    sun_azimuth_deg=(145.0, 145.0),
    glint=(0.0, 0.0),
    gain=(1.0, 1.0),
    band_gain=(1.0, 1.0),
    stretch=(0.0, 0.0),
    pixel_factors=(1.0,),
    snr=(150.0, 150.0),
)
"""The places of RANDOM under one sensor, season, sun and air: what pretraining may ask an encoder to see through to."""
