"""Reflectances of land-cover materials and the spectral bands of satellites' and aerial cameras.

Approximate, authored values for a synthetic benchmark, not for radiometric work. Reflectances are rounded composites
informed by the USGS spectral library (splib07), the ECOSTRESS library and NASA RP-1139 (Bowker et al. 1985); no data
are copied. Bands: GF-1 and GF-2 after CRESDA as summarised by the FBP paper and eoPortal; PlanetScope after the
vendor's article on band specifications; Sentinel-2 after ESA's spectral response functions; OHS after the WHU-OHS
paper; aerial cameras after Vexcel's and Z/I's literature, roughly. A band is a boxcar as wide as its FWHM.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

GRID_NM: FloatArray = np.arange(400.0, 1001.0)
"""The wavelengths of every spectrum here, in nanometres."""

ANCHORS_NM = (400, 450, 490, 550, 600, 650, 680, 705, 740, 780, 842, 900, 940, 1000)
"""The wavelengths, in nanometres, at which `ANCHORS` states reflectances; between them, linear interpolation."""

# fmt: off
ANCHORS: dict[str, tuple[float, ...]] = {
    "broadleaf canopy (summer)":   (.025, .030, .035, .070, .045, .035, .030, .100, .300, .400, .430, .440, .430, .440),
    "conifer canopy":              (.015, .020, .022, .040, .030, .025, .020, .060, .180, .240, .260, .270, .265, .270),
    "shrub / open canopy":         (.035, .042, .050, .085, .075, .065, .060, .125, .230, .280, .305, .315, .310, .320),
    "green grass / meadow":        (.030, .035, .045, .095, .070, .055, .045, .130, .340, .420, .450, .460, .450, .460),
    "irrigated crop, full cover":  (.030, .035, .040, .085, .055, .045, .035, .120, .380, .480, .510, .520, .510, .520),
    "paddy, full canopy":          (.025, .030, .035, .075, .050, .035, .030, .100, .320, .410, .440, .450, .440, .445),
    "paddy, flooded (LAI<1)":      (.045, .055, .062, .082, .072, .060, .054, .062, .072, .076, .076, .070, .060, .055),
    "stubble / senescent crop":    (.060, .080, .100, .150, .190, .230, .240, .260, .290, .310, .330, .350, .360, .380),
    "bare soil, dry loam":         (.070, .090, .110, .150, .190, .220, .235, .245, .260, .280, .300, .320, .330, .345),
    "bare soil, wet":              (.035, .045, .055, .080, .100, .120, .125, .130, .140, .150, .165, .175, .175, .185),
    "sand / gobi":                 (.140, .180, .220, .290, .340, .375, .385, .395, .405, .415, .430, .440, .445, .455),
    "clear deep water":            (.040, .040, .038, .028, .014, .009, .008, .006, .004, .004, .003, .003, .002, .002),
    "turbid river":                (.050, .065, .080, .120, .125, .115, .110, .105, .075, .065, .060, .045, .035, .025),
    "eutrophic / fish pond":       (.035, .040, .050, .085, .060, .050, .040, .070, .045, .040, .035, .028, .020, .015),
    "shallow pond":                (.045, .055, .062, .085, .075, .062, .055, .055, .045, .040, .038, .030, .022, .018),
    "asphalt, aged":               (.060, .070, .075, .085, .095, .100, .105, .108, .110, .115, .120, .125, .127, .130),
    "asphalt / bitumen, new":      (.035, .038, .040, .043, .045, .047, .048, .049, .050, .051, .053, .055, .056, .058),
    "concrete":                    (.160, .200, .225, .265, .285, .300, .305, .310, .315, .320, .325, .330, .330, .335),
    "red clay tile":               (.050, .060, .070, .100, .200, .270, .290, .300, .320, .335, .335, .330, .340, .370),
    "grey fibre-cement / slate":   (.100, .120, .130, .145, .150, .155, .157, .158, .160, .165, .170, .175, .177, .180),
    "blue painted steel":          (.120, .280, .300, .180, .100, .080, .085, .100, .200, .300, .360, .380, .385, .390),
    "white membrane roof":         (.350, .620, .680, .710, .720, .725, .725, .725, .720, .715, .700, .690, .680, .680),
    "plastic greenhouse":          (.220, .270, .290, .320, .330, .340, .340, .360, .420, .450, .470, .480, .480, .480),
    "fresh snow":                  (.950, .960, .960, .955, .945, .935, .930, .925, .915, .905, .880, .860, .850, .780),
    "old / dirty snow":            (.550, .600, .620, .640, .640, .630, .625, .620, .605, .590, .550, .520, .500, .420),
}
"""Reflectance (0 to 1) of each material at `ANCHORS_NM`; water's includes a small glint of the sky."""
# fmt: on

MATERIALS: tuple[str, ...] = tuple(ANCHORS)
"""Names of the materials, in the order of every material axis."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """A camera's bands, by rising wavelength wherever there is a band axis here; an image has them in `order`.

    Args:
        centres_nm: centres of the bands in nanometres, rising.
        widths_nm: full widths in nanometres.
        full_scale: top-of-atmosphere signal of the digital number 255, per band.
        order: for each band of a delivered image its index here.
    """

    name: str
    title: str
    centres_nm: tuple[float, ...]
    widths_nm: tuple[float, ...]
    full_scale: tuple[float, ...] = (0.30, 0.30, 0.36, 0.56)
    order: tuple[int, ...] = (3, 2, 1, 0)


_OHS_NM = (
    *(466, 480, 500, 520, 536, 550, 566, 580, 596, 610, 626, 640, 656, 670, 686, 700),
    *(716, 730, 746, 760, 776, 790, 806, 820, 836, 850, 866, 880, 896, 910, 926, 940),
)


def _visible(name: str, title: str, centres_nm: tuple[float, ...], widths_nm: tuple[float, ...]) -> Sensor:
    """A camera delivered as R, G, B."""
    full_scale = (0.30, 0.30, 0.36)
    return Sensor(
        name=name, title=title, centres_nm=centres_nm, widths_nm=widths_nm, full_scale=full_scale, order=(2, 1, 0)
    )


SENSORS: dict[str, Sensor] = {
    sensor.name: sensor
    for sensor in (
        Sensor(name="gf2", title="GF-2 PMS", centres_nm=(485, 555, 660, 830), widths_nm=(70, 70, 60, 120)),
        Sensor(name="gf1", title="GF-1 PMS", centres_nm=(485, 555, 660, 830), widths_nm=(70, 70, 60, 120)),
        Sensor(name="dove", title="PlanetScope PS2", centres_nm=(485, 545, 630, 820), widths_nm=(60, 90, 80, 80)),
        Sensor(
            name="dove_r",
            title="PlanetScope PS2.SD (Dove-R)",
            centres_nm=(490.5, 566, 666, 867),
            widths_nm=(53, 38, 32, 42),
        ),
        Sensor(
            name="sentinel2",
            title="Sentinel-2A MSI (B2, B3, B4, B8)",
            centres_nm=(492.4, 559.8, 664.6, 832.8),
            widths_nm=(66, 36, 31, 106),
        ),
        Sensor(
            name="ohs",
            title="Orbita hyperspectral",
            centres_nm=_OHS_NM,
            widths_nm=(8,) * 32,
            full_scale=tuple(float(np.interp(nm, (555, 660, 760, 830), (0.30, 0.36, 0.50, 0.56))) for nm in _OHS_NM),
            order=tuple(range(32)),
        ),
        Sensor(
            name="ultracam",
            title="UltraCam-class aerial camera, R, G, B, NIR",
            centres_nm=(470, 550, 635, 800),
            widths_nm=(110, 110, 100, 180),
            order=(2, 1, 0, 3),
        ),
        Sensor(
            name="aerial_narrow",
            title="an aerial camera of narrower, longer bands, R, G, B, NIR",
            centres_nm=(465, 560, 655, 780),
            widths_nm=(80, 80, 70, 120),
            order=(2, 1, 0, 3),
        ),
        _visible("potsdam", "UltraCam-class aerial camera, R, G, B", (470, 550, 635), (110, 110, 100)),
        Sensor(
            name="vaihingen",
            title="DMC-class aerial camera, NIR, R, G",
            centres_nm=(560, 635, 765),
            widths_nm=(110, 85, 140),
            full_scale=(0.30, 0.36, 0.56),
            order=(2, 1, 0),
        ),
        _visible("web", "processed mosaic, R, G, B", (470, 550, 650), (80, 80, 70)),
        _visible("web_broad", "processed mosaic of broader bands, R, G, B", (465, 545, 630), (80, 90, 80)),
    )
}
"""The cameras by name. GF-1 has GF-2's nominal bands; their real responses differ slightly."""


@cache
def reflectances() -> FloatArray:
    """Reflectance spectra of all materials on `GRID_NM`, shape [materials, 601]."""
    spectra = np.stack([np.interp(GRID_NM, ANCHORS_NM, values) for values in ANCHORS.values()])
    spectra.setflags(write=False)
    return spectra


@cache
def response(sensor: Sensor) -> FloatArray:
    """A sensor's band weights on `GRID_NM`, shape [bands, 601], rows summing to one; edges inclusive."""
    centres, widths = np.array(sensor.centres_nm)[:, None], np.array(sensor.widths_nm)[:, None]
    inside = (np.abs(GRID_NM - centres) <= widths / 2).astype(np.float64)
    weights: FloatArray = inside / inside.sum(axis=1, keepdims=True)
    weights.setflags(write=False)
    return weights


def band_average(spectra: FloatArray, sensor: Sensor) -> FloatArray:
    """Spectra [..., 601] as the sensor's bands see them: [..., bands], by rising wavelength."""
    # einsum, not BLAS: the sum's order, hence its last bit, must not depend on the number of threads.
    averages: FloatArray = np.einsum("...w,bw->...b", spectra, response(sensor))
    return averages


@cache
def material_bands(sensor: Sensor) -> FloatArray:
    """Band averages of all materials, shape [materials, bands], by rising wavelength."""
    averages = band_average(reflectances(), sensor)
    averages.setflags(write=False)
    return averages
