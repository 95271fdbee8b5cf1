"""The embedded scenes: their physics, their determinism, and that they pose the problem they are meant to pose."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.synthetic.atmosphere import atmosphere, band_atmosphere
from benchmarks.synthetic.cover import SEASONS, SECOND, STANDING, abundances
from benchmarks.synthetic.domains import DOMAINS, RANDOM, SENTINEL2, SOURCE, TARGETS, Domain
from benchmarks.synthetic.layout import BUILDING, CLASSES, CROP, FOREST, PADDY, ROAD, WATER, Plan, make_layout
from benchmarks.synthetic.render import draw_conditions, illumination, render_scene
from benchmarks.synthetic.scenes import open_fbp_cs, pretraining_scenes, task_scene
from benchmarks.synthetic.spectra import MATERIALS, SENSORS, band_average, material_bands, reflectances, response
from benchmarks.tasks import SceneSizes

SIZES = SceneSizes(source_scenes=12, target_scenes=6, scene_px=128, tile_px=64)

# Bands B G R N of GF-2 (and GF-1), PS2, PS2.SD, Sentinel-2; then the NDVI of GF-2.
GOLDEN = {
    "broadleaf canopy (summer)": ".037 .060 .036 .420|.037 .057 .039 .419|.038 .062 .033 .434|.040 .064 .033 .423|.84",
    "conifer canopy": ".023 .036 .025 .254|.023 .034 .027 .253|.024 .037 .022 .264|.025 .038 .022 .256|.82",
    "shrub / open canopy": ".052 .079 .066 .298|.051 .075 .069 .296|.053 .082 .063 .309|.054 .082 .062 .299|.64",
    "green grass / meadow": ".048 .084 .055 .440|.047 .079 .061 .439|.049 .087 .050 .454|.051 .089 .050 .443|.78",
    "irrigated crop, full cover": ".043 .073 .045 .500|.043 .069 .049 .499|.044 .075 .040 .514|.046 .078 .040 .503|.84",
    "paddy, full canopy": ".038 .065 .036 .430|.037 .061 .041 .429|.039 .067 .033 .444|.040 .069 .033 .433|.84",
    "paddy, flooded (LAI<1)": ".062 .078 .059 .075|.062 .076 .065 .076|.063 .079 .057 .073|.064 .080 .057 .075|.12",
    "stubble / senescent crop": ".100 .154 .232 .326|.099 .146 .213 .323|.103 .163 .235 .339|.104 .158 .235 .327|.17",
    "bare soil, dry loam": ".109 .155 .225 .296|.108 .148 .208 .293|.111 .163 .228 .309|.113 .158 .227 .297|.14",
    "bare soil, wet": ".055 .082 .121 .161|.055 .078 .111 .160|.056 .086 .123 .169|.057 .084 .122 .162|.14",
    "sand / gobi": ".216 .294 .377 .426|.216 .283 .360 .425|.222 .306 .380 .434|.224 .299 .380 .427|.06",
    "clear deep water": ".037 .026 .009 .003|.038 .028 .011 .003|.037 .024 .008 .003|.037 .025 .008 .003|-.45",
    "turbid river": ".080 .117 .113 .059|.080 .112 .119 .061|.082 .122 .112 .054|.084 .120 .112 .059|-.31",
    "eutrophic / fish pond": ".051 .075 .048 .036|.051 .072 .054 .037|.052 .077 .045 .032|.054 .079 .045 .035|-.14",
    "shallow pond": ".062 .080 .060 .037|.062 .078 .067 .038|.064 .082 .058 .035|.064 .083 .059 .037|-.23",
    "asphalt, aged": ".075 .086 .102 .119|.075 .084 .098 .118|.075 .088 .103 .122|.076 .087 .102 .119|.08",
    "asphalt / bitumen, new": ".040 .043 .047 .053|.040 .043 .046 .052|.040 .044 .048 .054|.040 .043 .048 .053|.05",
    "concrete": ".222 .265 .301 .324|.222 .259 .294 .323|.226 .271 .303 .327|.227 .269 .302 .324|.04",
    "red clay tile": ".070 .120 .274 .334|.070 .111 .240 .335|.072 .132 .281 .333|.073 .121 .280 .334|.10",
    "grey fibre-cement / slate": ".129 .145 .156 .169|.129 .142 .153 .168|.130 .147 .156 .172|.131 .146 .156 .169|.04",
    "blue painted steel": ".281 .175 .084 .342|.284 .194 .090 .337|.283 .154 .083 .369|.277 .165 .083 .345|.61",
    "white membrane roof": ".666 .709 .725 .704|.667 .705 .723 .705|.674 .713 .725 .696|.674 .712 .725 .703|-.01",
    "plastic greenhouse": ".287 .319 .340 .464|.287 .315 .335 .463|.290 .323 .340 .474|.291 .322 .340 .466|.15",
    "fresh snow": ".959 .953 .933 .885|.960 .954 .939 .889|.959 .952 .932 .871|.959 .953 .933 .884|-.03",
    "old / dirty snow": ".616 .638 .628 .559|.617 .635 .634 .564|.619 .640 .627 .537|.620 .640 .627 .557|-.06",
}
GOLDEN_SENSORS = ("gf2", "dove", "dove_r", "sentinel2")


def golden(material: str) -> npt.NDArray[np.float64]:
    return np.array([[float(value) for value in cell.split()] for cell in GOLDEN[material].split("|")[:4]])


# --- Materials and bands


@pytest.mark.parametrize("sensor", GOLDEN_SENSORS)
@pytest.mark.parametrize("material", MATERIALS)
def test_band_averages_equal_the_golden_table(material: str, sensor: str) -> None:
    expected = golden(material)[GOLDEN_SENSORS.index(sensor)]
    np.testing.assert_allclose(material_bands(SENSORS[sensor])[MATERIALS.index(material)], expected, atol=0.002)


@pytest.mark.parametrize("material", MATERIALS)
def test_ndvi_of_materials(material: str) -> None:
    _, _, red, nir = material_bands(SENSORS["gf2"])[MATERIALS.index(material)]
    assert (nir - red) / (nir + red) == pytest.approx(float(GOLDEN[material].split("|")[4]), abs=0.02)


@pytest.mark.parametrize("sensor", SENSORS)
def test_response_lies_where_the_table_says(sensor: str) -> None:
    weights = response(SENSORS[sensor])
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(
        band_average(np.arange(400.0, 1001.0), SENSORS[sensor]), SENSORS[sensor].centres_nm, atol=0.5
    )


def test_reflectances_are_fractions() -> None:
    assert reflectances().min() > 0
    assert reflectances().max() < 1


# --- Atmosphere and light


@pytest.mark.parametrize(
    ("aod", "zenith", "expected"),
    [
        (0.1, 30, (0.21, 0.17, 0.13, 0.10, 0.06)),
        (0.1, 50, (0.28, 0.23, 0.18, 0.13, 0.08)),
        (0.3, 30, (0.37, 0.33, 0.27, 0.22, 0.16)),
        (0.3, 50, (0.46, 0.41, 0.35, 0.28, 0.21)),
        (0.6, 50, (0.66, 0.61, 0.55, 0.46, 0.36)),
    ],
)
def test_diffuse_share_equals_reference(aod: float, zenith: float, expected: tuple[float, ...]) -> None:
    diffuse = atmosphere(aod, zenith).diffuse
    np.testing.assert_allclose(diffuse[np.array([450, 490, 550, 650, 830]) - 400], expected, atol=0.011)


def test_path_and_transmittance_equal_reference() -> None:
    clear, hazy = band_atmosphere(SENSORS["gf2"], 0.05, 35), band_atmosphere(SENSORS["gf2"], 0.8, 35)
    np.testing.assert_allclose(clear.path, (0.066, 0.038, 0.019, 0.008), atol=0.0015)
    np.testing.assert_allclose(hazy.path, (0.101, 0.068, 0.044, 0.027), atol=0.0015)
    np.testing.assert_allclose([clear.transmittance[0], hazy.transmittance[0]], (0.81, 0.51), atol=0.01)
    np.testing.assert_allclose([clear.transmittance[3], hazy.transmittance[3]], (0.96, 0.76), atol=0.011)


@pytest.mark.parametrize("zenith", [20.0, 45.0, 65.0])
def test_air_is_physical(zenith: float) -> None:
    airs = [atmosphere(aod, zenith) for aod in (0.05, 0.2, 0.5, 0.9)]
    for air in airs:
        assert (np.diff(air.path) < 0).all()
        assert ((air.transmittance > 0) & (air.transmittance < 1)).all()
        assert ((air.diffuse > 0) & (air.diffuse < 1)).all()
        top = air.top(reflectances(), reflectances().mean(axis=0))
        assert np.isfinite(top).all()
        assert top.max() < 1.3
    for clear, hazy in pairwise(airs):
        assert (hazy.path > clear.path).all()
        assert (hazy.transmittance < clear.transmittance).all()


def test_haze_makes_flooded_paddy_and_pond_more_alike() -> None:
    pair = material_bands(SENSORS["gf2"])[[MATERIALS.index("paddy, flooded (LAI<1)"), MATERIALS.index("shallow pond")]]

    def angle(spectra: npt.NDArray[np.float64]) -> float:
        first, second = spectra
        return float(np.degrees(np.arccos(first @ second / np.linalg.norm(first) / np.linalg.norm(second))))

    angles = [angle(pair)]
    for aod in (0.05, 0.2, 0.4, 0.8):
        air = band_atmosphere(SENSORS["gf2"], aod, 35)
        angles.append(angle(air.top(pair, pair)))
    np.testing.assert_allclose(angles, (15.4, 10.7, 10.0, 9.2, 7.6), atol=0.4)


def test_a_wall_casts_a_blue_shadow_away_from_the_sun() -> None:
    height = np.zeros((40, 40), dtype=np.float32)
    height[18:22, 18:22] = 10
    at_noon = replace(draw_conditions(SOURCE, "wall"), sun_azimuth_deg=180.0, sun_zenith_deg=45.0, sky_view=0.8)
    air = band_atmosphere(SENSORS["gf2"], 0.2, 45.0)
    light = illumination(height, at_noon, air)
    np.testing.assert_allclose(light[5, 5], 1, atol=1e-6)
    shadow = light[15, 20]
    np.testing.assert_allclose(shadow, 0.8 * air.diffuse, rtol=1e-5)
    assert (np.diff(shadow) < 0).all(), "B, G, R, NIR: the shadow must be bluer than the light"
    np.testing.assert_allclose(light[25, 20], 1, atol=1e-6)
    np.testing.assert_allclose(light[12, 20], 1, atol=1e-6)


# --- Layouts


def test_abundances_are_mixtures() -> None:
    layout = make_layout("mixtures", 64, Plan())
    shares = abundances(layout, {**STANDING, **SEASONS["spring"].covers})
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=-1), 1, atol=1e-6)
    assert set(SECOND) == set(range(len(CLASSES)))


def test_paddies_are_flooded_in_spring_and_stubble_in_autumn() -> None:
    def share(season: str, material: str) -> float:
        layouts = [make_layout(f"paddies{index}", 128, Plan()) for index in range(4)]
        covers = [
            abundances(layout, {**STANDING, **SEASONS[season].covers})[layout.label == PADDY] for layout in layouts
        ]
        return float(np.concatenate(covers)[:, MATERIALS.index(material)].mean())

    assert share("spring", "paddy, flooded (LAI<1)") > 0.4
    assert share("autumn", "paddy, flooded (LAI<1)") < 0.01
    assert share("autumn", "stubble / senescent crop") > 0.3


def test_objects_carry_the_class_of_their_pixels() -> None:
    for px in (32, 64, 128):
        layout = make_layout(f"objects{px}", px, Plan())
        assert (layout.object_class[layout.object_id] == layout.label).all()
        assert layout.structure.min() >= 0
        assert layout.structure.max() <= 1
        assert layout.height_m.min() >= 0


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_class_is_in_at_least_three_scenes(domain: str) -> None:
    scenes = [np.unique(task_scene("fbp_cs", domain, index, 128).label) for index in range(8)]
    assert all(sum(kind in present for present in scenes) >= 3 for kind in range(len(CLASSES)))


def test_height_tells_roofs_from_roads_but_no_threshold_tells_all() -> None:
    layouts = [make_layout(f"heights{index}", 128, Plan()) for index in range(6)]
    label = np.concatenate([layout.label.ravel() for layout in layouts])
    height = np.concatenate([layout.height_m.ravel() for layout in layouts])
    median = [float(np.median(height[label == kind])) for kind in range(len(CLASSES))]
    assert median[BUILDING] > median[ROAD] + 3
    assert median[FOREST] > median[CROP] + 3
    assert np.quantile(height[label == CROP], 0.9) > np.quantile(height[label == BUILDING], 0.1)


# --- Determinism


def test_same_scene_in_another_process_is_identical() -> None:
    script = (
        "from benchmarks.synthetic.scenes import task_scene, pretraining_scenes\n"
        "import hashlib\n"
        "scene = task_scene('fbp_cs', 'planetscope', 3, 128)\n"
        "extra = list(pretraining_scenes(2, 64, 7))[1]\n"
        "parts = (scene.image, scene.label, scene.height_m, extra.image, extra.height_m)\n"
        "print(hashlib.sha256(b''.join(part.tobytes() for part in parts)).hexdigest())\n"
    )
    root = str(Path(__file__).parents[1])
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONPATH": root, "PYTHONHASHSEED": salt, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt, threads in (("1", "1"), ("2", "2"))
    }
    assert len(seen) == 1


def test_scenes_do_not_depend_on_the_order_asked() -> None:
    forward, backward = open_fbp_cs(SIZES), open_fbp_cs(SIZES)
    tiles = forward.tiles("gf2")[:12]
    first = [forward.read(tile) for tile in tiles]
    second = [backward.read(tile) for tile in reversed(tiles)][::-1]
    for one, other in zip(first, second, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert one.label.tobytes() == other.label.tobytes()


def test_domains_and_pretraining_show_different_places() -> None:
    labels = [task_scene("fbp_cs", domain, 0, 64).label for domain in DOMAINS]
    labels += [scene.label for seed in (0, 1) for scene in pretraining_scenes(2, 64, seed)]
    assert len({label.tobytes() for label in labels}) == len(labels)


def test_more_pretraining_scenes_begin_with_the_same() -> None:
    few, more = list(pretraining_scenes(1, 64, 5)), list(pretraining_scenes(3, 64, 5))
    assert few[0].image.tobytes() == more[0].image.tobytes()
    assert more[0].image.tobytes() != more[1].image.tobytes()
    assert (few[0].image.shape, few[0].image.dtype.name) == ((64, 64, 4), "uint8")
    assert (few[0].height_m.shape, few[0].height_m.dtype.name) == ((64, 64), "float32")
    assert (few[0].label.shape, few[0].label.dtype.name) == ((64, 64), "uint8")


# --- Imaging


def paired(domain: Domain, index: int) -> npt.NDArray[np.uint8]:
    return render_scene(domain, f"pair{index}", 64).image


@pytest.mark.parametrize("domain", [*TARGETS, RANDOM], ids=lambda domain: domain.name)
def test_imaging_leaves_label_and_height_alone(domain: Domain) -> None:
    source = render_scene(SOURCE, "source", 64, layout_key="place")
    other = render_scene(replace(domain, plan=SOURCE.plan), "other", 64, layout_key="place")
    assert source.label.tobytes() == other.label.tobytes()
    assert source.height_m.tobytes() == other.height_m.tobytes()
    assert source.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("stretch", [0.0, 0.4])
def test_class_means_shift_with_haze_and_not_without(stretch: float) -> None:
    def shift(aod: float) -> float:
        base = replace(SOURCE, aod=(0.1, 0.1), stretch=(stretch, stretch))
        hazy = replace(base, aod=(aod, aod))
        pairs = [(paired(base, index), paired(hazy, index)) for index in range(3)]
        return float(np.mean([np.abs(one.mean((0, 1)) - two.mean((0, 1))).mean() for one, two in pairs]))

    shifts = [shift(aod) for aod in (0.1, 0.25, 0.5, 0.9)]
    assert shifts[0] == 0
    assert (np.diff(shifts) > 0).all()


def test_low_sun_darkens() -> None:
    means = [
        paired(replace(SOURCE, sun_zenith_deg=(zenith, zenith), stretch=(0.0, 0.0)), 0).mean()
        for zenith in (25, 45, 60)
    ]
    assert means[0] > means[1] > means[2]


def test_vegetation_shows_that_the_bands_are_nir_red_green_blue() -> None:
    scene = render_scene(replace(SOURCE, seasons=(SEASONS["summer"],), stretch=(0.0, 0.0)), "ndvi", 128)

    def ndvi(image: npt.NDArray[np.uint8], kind: int) -> float:
        # The fixed gains differ: digital numbers are brought back to reflectance.
        nir, red = (image[scene.label == kind][:, band] * scale for band, scale in ((0, 0.56), (1, 0.36)))
        return float(np.median((nir - red) / (nir + red + 1e-6)))

    assert ndvi(scene.image, FOREST) > 0.4
    assert ndvi(scene.image, WATER) < 0.1
    assert ndvi(scene.image[..., ::-1], FOREST) < 0.4


# --- The problem posed


@cache
def pixels(domain: str, first: int, last: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    return _pixels(DOMAINS[domain], first, last)


def _pixels(domain: Domain, first: int, last: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    scenes = [render_scene(domain, f"v1/fbp_cs/{domain.name}/{index}", 128) for index in range(first, last)]
    image = np.concatenate([scene.image.reshape(-1, 4)[::3] for scene in scenes]).astype(np.float64)
    return image, np.concatenate([scene.label.ravel()[::3] for scene in scenes])


Classifier = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.int64]]


def gaussian_classifier(image: npt.NDArray[np.float64], label: npt.NDArray[np.uint8]) -> Classifier:
    kinds = range(int(label.max()) + 1)
    means = np.stack([image[label == kind].mean(axis=0) for kind in kinds])
    covariances = np.stack([np.cov(image[label == kind].T) + np.eye(image.shape[1]) for kind in kinds])
    inverses, logdets = np.linalg.inv(covariances), np.linalg.slogdet(covariances)[1]

    def classify(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        apart = pixels[:, None] - means
        distances = np.einsum("nci,nci->nc", np.einsum("nci,cij->ncj", apart, inverses), apart)
        return np.asarray(np.argmin(distances + logdets, axis=1))

    return classify


def miou(classify: Classifier, image: npt.NDArray[np.float64], label: npt.NDArray[np.uint8]) -> float:
    found, kinds = classify(image), int(label.max()) + 1
    assert found.max() < kinds, "every class of the training scenes is in those of the test"
    counts = np.bincount(label.astype(np.int64) * kinds + found, minlength=kinds**2).reshape(kinds, -1)
    hits = np.diag(counts)
    return float(100 * (hits / (counts.sum(0) + counts.sum(1) - hits)).mean())


@pytest.fixture(scope="module")
def source_classifier() -> Classifier:
    return gaussian_classifier(*pixels("gf2", 0, 24))


def test_a_pixel_classifier_loses_on_every_target(source_classifier: Classifier) -> None:
    at_home = miou(source_classifier, *pixels("gf2", 24, 40))
    away = {target.name: miou(source_classifier, *pixels(target.name, 0, 16)) for target in TARGETS}
    assert at_home > 38, "the source is learnable"
    assert at_home - np.mean(list(away.values())) > 4, away
    assert all(score < at_home for score in away.values()), away
    assert min(away.values()) > 20, "no target is hopeless"


def test_bands_alone_shift_little(source_classifier: Classifier) -> None:
    at_home = miou(source_classifier, *pixels("gf2", 24, 40))
    for sensor in ("dove", "dove_r", "sentinel2"):
        shifted = _pixels(replace(SOURCE, sensors=(SENSORS[sensor],)), 24, 40)
        assert at_home - miou(source_classifier, *shifted) < 4, sensor


def test_haze_and_low_sun_cost_ten_points_with_a_fixed_gain() -> None:
    source, target = (replace(domain, stretch=(0.0, 0.0)) for domain in (SOURCE, SENTINEL2))
    classify = gaussian_classifier(*_pixels(source, 0, 24))
    at_home = miou(classify, *_pixels(source, 24, 40))
    assert at_home - miou(classify, *_pixels(target, 0, 16)) > 10


def test_a_scene_stretch_depends_on_what_the_scene_contains() -> None:
    def cost(stretch: float) -> float:
        base = replace(SOURCE, stretch=(stretch, stretch))
        lake = replace(base, plan=Plan(parcel_mix=(0.1, 0.1, 0.05, 0.75), mix_spread=0.0, buildings=(0.5, 1.0)))
        classify = gaussian_classifier(*_pixels(base, 0, 16))
        return miou(classify, *_pixels(base, 24, 36)) - miou(classify, *_pixels(lake, 0, 12))

    assert cost(1.0) > cost(0.0) + 3


# --- The reader


def test_tiles_are_named_and_cut() -> None:
    reader = open_fbp_cs(SIZES)
    tiles = reader.tiles("gf2")
    assert len(tiles) == 12 * 4
    assert len(reader.tiles("gf1")) == 6 * 4
    last = tiles[4 * 3 + 1]
    assert (last.domain, last.scene, last.name) == ("gf2", "gf2_0003", "gf2_0003_r0_c1")
    scene = task_scene("fbp_cs", "gf2", 3, 128)
    sample = reader.read(last)
    np.testing.assert_array_equal(sample.image, scene.image[:64, 64:])
    np.testing.assert_array_equal(sample.label, scene.label[:64, 64:])
    sample.image[:] = 0
    np.testing.assert_array_equal(reader.read(last).image, scene.image[:64, 64:])


def test_check_calls_back_once_per_tile() -> None:
    reader, calls = open_fbp_cs(SIZES), []
    reader.check(reader.tiles("gf2"), lambda: calls.append(1))
    assert len(calls) == len(reader.tiles("gf2"))


def test_fingerprint_follows_the_sizes() -> None:
    assert open_fbp_cs(SIZES).fingerprint == open_fbp_cs(replace(SIZES)).fingerprint
    assert open_fbp_cs(SIZES).fingerprint != open_fbp_cs(replace(SIZES, scene_px=64)).fingerprint


def test_user_errors_name_the_remedy() -> None:
    with pytest.raises(ValueError, match="Did you mean 'planetscope'"):
        open_fbp_cs(SIZES).tiles("planetscop")
    with pytest.raises(ValueError, match="tile_px=48"):
        open_fbp_cs(replace(SIZES, tile_px=48))
