"""From a layout to an image: season, sun, shadow, air, optics, noise and eight bits.

The chain is linear in the materials up to the sensor, so spectra are mixed per object in the sensor's own bands
and spread over the pixels. Labels never pass through it. Everything it makes is synthetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.synthetic.atmosphere import Atmosphere, band_atmosphere, band_gas
from benchmarks.synthetic.cover import Covers, Season, object_covers
from benchmarks.synthetic.domains import Domain
from benchmarks.synthetic.fields import FloatImage, blur, coarsen
from benchmarks.synthetic.layout import KNOTS, PIXEL_M, WATER, Layout, make_layout
from benchmarks.synthetic.spectra import GRID_NM, Sensor, material_bands
from benchmarks.synthetic.streams import draw, stream

REFERENCE_ZENITH_DEG = 35.0
"""The sun's angle for which the fixed gain was set."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What was drawn for one scene; the shift of a scene can be read off it. `Domain` explains the fields."""

    sensor: Sensor
    season: Season
    aod: float
    angstrom: float
    sun_zenith_deg: float
    sun_azimuth_deg: float
    sky_view: float
    glint: float
    gain: float
    band_gains: tuple[float, ...]
    humidity: float | None
    gamma: float
    stretch: float
    psf_sigma_px: float
    pixel_factor: float
    snr: float
    pixel_m: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One synthetic scene: image uint8 [px, px, bands] in the sensor's order, label and height in metres [px, px]."""

    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    height_m: FloatImage
    conditions: Conditions


def render_scene(domain: Domain, key: str, px: int, layout_key: str | None = None) -> Scene:
    """Render the scene named `key`.

    Args:
        domain: the ranges to draw from.
        key: names all random streams of the scene.
        px: width and height in pixels.
        layout_key: names the streams of the layout instead; scenes of two domains with equal layout keys (and plans)
            show the same place and compare pixel by pixel.
    """
    layout = make_layout(key if layout_key is None else layout_key, px, domain.plan, domain.zoom)
    conditions = draw_conditions(domain, key)
    signal = sensed(layout, conditions, domain.covers, stream("imaging", key, "noise"))
    image = quantise(signal, conditions)
    return Scene(image=image, label=layout.label, height_m=layout.height_m, conditions=conditions)


def draw_conditions(domain: Domain, key: str) -> Conditions:
    """Draw a scene's conditions, each from a stream of its own."""

    def number(name: str, limits: tuple[float, float]) -> float:
        return draw(limits, "imaging", key, name)

    def position(name: str, options: int) -> int:
        return min(int(number(name, (0, options))), options - 1)

    low, high = np.log(domain.aod)
    sensor = domain.sensors[position("sensor", len(domain.sensors))]
    return Conditions(
        sensor=sensor,
        season=domain.seasons[position("season", len(domain.seasons))],
        aod=float(np.exp(number("aod", (low, high)))),
        angstrom=number("angstrom", domain.angstrom),
        sun_zenith_deg=number("sun_zenith", domain.sun_zenith_deg),
        sun_azimuth_deg=number("sun_azimuth", domain.sun_azimuth_deg),
        sky_view=number("sky_view", domain.sky_view),
        glint=number("glint", domain.glint),
        gain=number("gain", domain.gain),
        band_gains=tuple(number(f"band_gain{band}", domain.band_gain) for band in range(len(sensor.centres_nm))),
        humidity=None if domain.humidity is None else number("humidity", domain.humidity),
        gamma=number("gamma", domain.gamma),
        stretch=number("stretch", domain.stretch),
        psf_sigma_px=number("psf", domain.psf_sigma_px),
        pixel_factor=domain.pixel_factors[position("pixel", len(domain.pixel_factors))],
        snr=number("snr", domain.snr),
        pixel_m=PIXEL_M / domain.zoom,
    )


def sensed(layout: Layout, conditions: Conditions, covers: Covers, noise: np.random.Generator) -> FloatImage:
    """What the sensor reports, [px, px, bands] by wavelength: apparent reflectance under the reference sun."""
    air = band_atmosphere(conditions.sensor, conditions.aod, conditions.sun_zenith_deg, conditions.angstrom)
    ground = ground_reflectance(layout, conditions, covers) * illumination(layout.height_m, conditions, air)
    # Light from around a pixel is scattered into its view, the more the hazier.
    leak = 0.03 + 0.12 * min(conditions.aod, 1.0)
    surroundings = ground.mean(axis=(0, 1), dtype=np.float64)
    top = air.top((1 - leak) * ground + leak * surroundings, surroundings)
    sun = np.cos(np.radians(conditions.sun_zenith_deg)) / np.cos(np.radians(REFERENCE_ZENITH_DEG))
    signal = (top * sun * conditions.gain * np.array(conditions.band_gains)).astype(np.float32)
    if conditions.humidity is not None:
        signal *= band_gas(conditions.sensor, conditions.humidity).astype(np.float32)
    signal = blur(signal, conditions.psf_sigma_px)
    if conditions.pixel_factor > 1:
        signal = coarsen(signal, conditions.pixel_factor)
    full = np.array(conditions.sensor.full_scale, dtype=np.float32)
    spread = full / conditions.snr * np.sqrt(0.2 + 0.8 * signal / full)
    return np.asarray(signal + spread * noise.standard_normal(signal.shape, dtype=np.float32), dtype=np.float32)


def ground_reflectance(layout: Layout, conditions: Conditions, covers: Covers) -> FloatImage:
    """Reflectance of the ground under full sun, [px, px, bands] by wavelength."""
    centres = np.array(conditions.sensor.centres_nm)
    places = np.linspace(GRID_NM[0], GRID_NM[-1], KNOTS)
    weights = np.stack([np.interp(centres, places, knot) for knot in np.eye(KNOTS)])
    variation = np.exp(layout.brightness[:, None] + np.einsum("ok,kb->ob", layout.knots, weights))
    bands = material_bands(conditions.sensor)
    first, second = (
        (np.einsum("om,mb->ob", cover, bands) * variation).astype(np.float32)
        for cover in object_covers(layout, {**covers, **conditions.season.covers})
    )
    first[layout.object_class == WATER] += np.float32(conditions.glint)
    share = layout.structure[..., None]
    mixed = first[layout.object_id] + share * (second - first)[layout.object_id]
    return np.asarray(mixed * np.exp(layout.texture)[..., None], dtype=np.float32)


def illumination(height_m: FloatImage, conditions: Conditions, air: Atmosphere) -> FloatImage:
    """Light on each pixel over that on open level ground, [px, px, bands]: direct on slopes, diffuse also in shadow."""
    slope, lit = _slope_factor(height_m, conditions), _lit(height_m, conditions)
    sky = (conditions.sky_view + (1 - conditions.sky_view) * lit)[..., None]
    diffuse = air.diffuse.astype(np.float32)
    return np.asarray((1 - diffuse) * (slope * lit)[..., None] + diffuse * sky, dtype=np.float32)


def quantise(signal: FloatImage, conditions: Conditions) -> npt.NDArray[np.uint8]:
    """Eight bits per band, in the sensor's order, between limits that are fixed, the scene's own, or in between."""
    sensor, stretch = conditions.sensor, conditions.stretch
    low, high = np.zeros(len(sensor.full_scale)), np.array(sensor.full_scale)
    if stretch > 0:
        percentiles = np.percentile(signal[::2, ::2].reshape(-1, len(high)), (2, 98), axis=0)
        low, high = stretch * percentiles[0], (1 - stretch) * high + stretch * percentiles[1]
    scale = (255 / (high - low)).astype(np.float32)
    numbers = (signal - low.astype(np.float32)) * scale
    if conditions.gamma != 1:
        numbers = 255 * (numbers / 255).clip(0, 1) ** np.float32(1 / conditions.gamma)
    eight_bits = np.rint(numbers).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(eight_bits[..., list(sensor.order)])


def _to_sun(conditions: Conditions) -> tuple[float, float]:
    """The direction to the sun in the image: rows and columns of a unit vector."""
    azimuth = np.radians(conditions.sun_azimuth_deg)
    return -float(np.cos(azimuth)), float(np.sin(azimuth))


def _slope_factor(height_m: FloatImage, conditions: Conditions) -> FloatImage:
    """Cosine of the sun's angle on the slope over that on level ground; 0 where the slope turns away."""
    to_sun = _to_sun(conditions)
    # Walls are seen from above as edges only: their steepness is capped.
    down, right = (np.clip(slope, -0.5, 0.5) for slope in np.gradient(height_m, conditions.pixel_m))
    tangent = np.float32(np.tan(np.radians(conditions.sun_zenith_deg)))
    facing = 1 - tangent * (down * np.float32(to_sun[0]) + right * np.float32(to_sun[1]))
    return np.asarray((facing / np.sqrt(1 + down**2 + right**2)).clip(0), dtype=np.float32)


def _lit(height_m: FloatImage, conditions: Conditions) -> FloatImage:
    """1 in the sun, 0 in the shadow of something higher towards the sun, with a narrow penumbra."""
    rise = conditions.pixel_m / float(np.tan(np.radians(conditions.sun_zenith_deg)))
    tallest = float(height_m.max() - height_m.min())
    steps = int(tallest / rise) + 1
    px = height_m.shape[0]
    padded = np.pad(height_m, steps, mode="edge")
    row, column = _to_sun(conditions)
    horizon = np.full_like(height_m, -np.inf)
    for step in range(1, steps + 1):
        top, left = steps + round(step * row), steps + round(step * column)
        np.maximum(horizon, padded[top : top + px, left : left + px] - np.float32(step * rise), out=horizon)
    return np.asarray((1 - (horizon - height_m)).clip(0, 1), dtype=np.float32)
