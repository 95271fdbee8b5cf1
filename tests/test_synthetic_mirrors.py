"""The seven mirrors: the old task's bytes, what each poses, the severity dial, and that all of them run."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.catalogue import TASKS
from benchmarks.synthetic import scenes
from benchmarks.synthetic.atmosphere import band_gas
from benchmarks.synthetic.domains import SENTINEL2, SOURCE, Domain
from benchmarks.synthetic.layout import CLASSES, Plan, make_layout
from benchmarks.synthetic.mirrors import MIRRORS
from benchmarks.synthetic.render import Scene, render_scene
from benchmarks.synthetic.scenes import GENERATOR_VERSION, SETTINGS, pretraining_scenes, task_scene
from benchmarks.synthetic.shift import FIELDS, shifted
from benchmarks.synthetic.spectra import MATERIALS, SENSORS, Sensor, material_bands
from benchmarks.tasks import AS_IS, INGREDIENTS, Band, DataSource, SceneSizes, Shift
from harness.bands import nearest_bands
from harness.plan import Request, make_plan
from harness.trial import Trial
from tests.conftest import TINY, Program, bodies
from tests.test_synthetic import Classifier, gaussian_classifier

SIZES = SceneSizes(source_scenes=4, target_scenes=2, scene_px=128, tile_px=64)
TARGETS = [(task, target) for task, mirror in MIRRORS.items() for target in mirror.targets]

SHORT = (*TINY, "--method", "frozen", "--set", "protocol.max_tiles=2")

# --- What shipped weights and documented numbers rest on

FROZEN = {
    ("gf2", 64): "321f07e6fb673300",
    ("gf2", 128): "1b5a5a040d157076",
    ("planetscope", 64): "541a5a48fd934191",
    ("planetscope", 128): "1e831b9fb5b508c1",
    ("gf1", 64): "dfe43ce2db4704e9",
    ("gf1", 128): "b94db13323f8336a",
    ("sentinel2", 64): "529f08c109dccea2",
    ("sentinel2", 128): "b921e8534f6d2f01",
}
"""Hashes of the first three scenes per domain and size, taken before there was a second task."""


CALIBRATED = {
    "whu_ohs_cr": "8003f32888b39cf5",
    "fbp_cs": "bbaecc9843861cb4",
    "fbp_cr": "ef24b8eaf46ff457",
    "flair_cr": "f00ce6454b46b0d5",
    "loveda_r2u": "d40419cd53ab2209",
    "potsdam2vaihingen": "11d6d38a73b3b03f",
    "oem_cc": "a994243032b27acc",
}
"""Hashes of the first two scenes of every domain of a task."""


def digest(*arrays: npt.NDArray[np.generic]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


@pytest.mark.parametrize(("domain", "px"), FROZEN)
def test_the_scenes_of_the_first_task_are_as_ever(domain: str, px: int) -> None:
    found = [task_scene("fbp_cs", domain, index, px) for index in range(3)]
    arrays = [array for scene in found for array in (scene.image, scene.label, scene.height_m)]
    assert digest(*arrays) == FROZEN[domain, px]


@pytest.mark.parametrize("task", CALIBRATED)
def test_calibrated_scenes_are_frozen(task: str) -> None:
    """Raise GENERATOR_VERSION with any change of a byte: numbers of docs/mini_scale.md rest on these."""
    assert GENERATOR_VERSION == "1"
    found = [task_scene(task, domain, index, 64) for domain in MIRRORS[task].domains for index in range(2)]
    arrays = [array for scene in found for array in (scene.image, scene.label, scene.height_m)]
    assert digest(*arrays) == CALIBRATED[task]


def test_the_scenes_for_pretraining_are_as_ever() -> None:
    found = list(pretraining_scenes(4, 64, 0))
    arrays = [array for scene in found for array in (scene.image, scene.canonical, scene.label, scene.height_m)]
    assert digest(*arrays) == "d08ada4356b071d3"


# --- Bands, layouts and classes


def embedded(task: str) -> DataSource:
    source = TASKS[task].embedded
    assert source is not None
    return source


def test_every_task_of_the_paper_has_a_mirror() -> None:
    assert set(MIRRORS) == set(SETTINGS) <= set(TASKS)
    for task, mirror in MIRRORS.items():
        assert tuple(SETTINGS[task]) == tuple(mirror.domains)
        assert embedded(task).targets == mirror.targets
        merged = [name for legend in mirror.legend.values() for name in legend.merges]
        assert sorted(merged) == sorted(CLASSES)
        assert len({legend.colour for legend in mirror.legend.values()}) == len(mirror.legend)


@pytest.mark.parametrize("task", MIRRORS)
def test_wavelengths_of_a_task_are_its_source_sensor_s(task: str) -> None:
    bands = TASKS[task].bands
    for setting in SETTINGS[task][MIRRORS[task].source]:
        for sensor in setting.sensors:
            centres = [sensor.centres_nm[index] / 1000 for index in sensor.order]
            assert sorted(sensor.order) == list(range(len(bands)))
            np.testing.assert_allclose(centres, [band.centre_um for band in bands], atol=0.041)


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=lambda sensor: sensor.name)
def test_green_plants_are_bright_in_the_near_infrared_of_every_camera(sensor: Sensor) -> None:
    assert len(sensor.centres_nm) == len(sensor.widths_nm) == len(sensor.full_scale) == len(sensor.order)
    bands = [Band(name="", centre_um=nm / 1000) for nm in sensor.centres_nm]
    red, nir = nearest_bands([Band(name="R", centre_um=0.66), Band(name="NIR", centre_um=0.83)], bands)
    grass = material_bands(sensor)[MATERIALS.index("green grass / meadow")]
    if sensor.centres_nm[nir] > 740:
        assert (grass[nir] - grass[red]) / (grass[nir] + grass[red]) > 0.4
    else:
        assert grass.max() < 0.12


def test_vaihingen_has_near_infrared_where_potsdam_has_red() -> None:
    def band_means(domain: str) -> npt.NDArray[np.float64]:
        found = [task_scene("potsdam2vaihingen", domain, index, 128) for index in range(4)]
        trees = np.concatenate([scene.image[scene.label == 3] for scene in found])
        return np.asarray(trees.mean(axis=0))

    potsdam, vaihingen = band_means("potsdam"), band_means("vaihingen")
    assert potsdam[0] < 1.3 * potsdam[1], "red of trees is dark beside their green"
    assert vaihingen[0] > 2 * vaihingen[1], "near infrared of trees is bright beside their red"


def test_gases_absorb_in_narrow_bands_alone_and_more_in_humid_air() -> None:
    ohs = SENSORS["ohs"]
    dry, humid = band_gas(ohs, 0.0), band_gas(ohs, 1.0)
    absorbing = [ohs.centres_nm.index(nm) for nm in (730, 760, 820, 910, 926, 940)]
    clear = [index for index in range(32) if index not in absorbing]
    np.testing.assert_allclose(dry[clear], 1, atol=0.1)
    assert (humid[absorbing] < dry[absorbing]).all()
    assert (dry[absorbing] < 0.95).all()
    np.testing.assert_allclose(dry[[19, 31]], (0.55, 0.55), atol=0.03)
    assert band_gas(SENSORS["gf2"], 0.5).min() > 0.85


def test_zoom_enlarges_what_lies_on_the_ground() -> None:
    def longest_run(zoom: float) -> float:
        labels = [make_layout(f"zoom{index}", 96, Plan(), zoom).label for index in range(6)]
        changes = sum(int((np.diff(label.astype(int), axis=0) != 0).sum()) for label in labels)
        return 6 * 96 * 96 / changes

    assert longest_run(0.8) < longest_run(1.0) < longest_run(2.0)


@pytest.mark.parametrize("task", MIRRORS)
def test_every_class_has_support_in_every_domain(task: str) -> None:
    classes = len(MIRRORS[task].legend)
    for domain in MIRRORS[task].domains:
        present = [np.unique(task_scene(task, domain, index, 128).label) for index in range(10)]
        assert all(sum(kind in found for found in present) >= 3 for kind in range(classes)), domain
        assert max(found.max() for found in present) < classes


@pytest.mark.parametrize("task", MIRRORS)
def test_images_use_their_eight_bits(task: str) -> None:
    for domain in MIRRORS[task].domains:
        image = np.stack([task_scene(task, domain, index, 128).image for index in range(4)])
        assert image.shape[-1] == len(TASKS[task].bands)
        assert image.dtype == np.uint8
        assert (image == 255).mean() < 0.06, domain
        assert image.std(axis=(0, 1, 2)).min() > 8, domain


# --- The shift and its dial


Counts = npt.NDArray[np.int64]


def samples(task: str, domain: str, index: int, shift: Shift) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    scene = task_scene(task, domain, index, 128, shift)
    return scene.image.reshape(-1, scene.image.shape[-1])[::5].astype(np.float64), scene.label.ravel()[::5]


@cache
def classifier(task: str) -> Classifier:
    found = [samples(task, MIRRORS[task].source, index, AS_IS) for index in range(24)]
    return gaussian_classifier(
        np.concatenate([image for image, _ in found]), np.concatenate([kind for _, kind in found])
    )


def confusions(task: str, domain: str, first: int, last: int, shift: Shift = AS_IS) -> Counts:
    """Pixels by class and found class of each scene, [scenes, classes, classes], of a classifier of source pixels."""
    classify, classes = classifier(task), len(MIRRORS[task].legend)
    counts = []
    for index in range(first, last):
        image, label = samples(task, domain, index, shift)
        counts.append(np.bincount(label.astype(np.int64) * classes + classify(image), minlength=classes**2))
    return np.stack(counts).reshape(-1, classes, classes)


def pooled(counts: Counts) -> float:
    """mIoU in percent over all scenes."""
    total = counts.sum(axis=0)
    hits = np.diag(total)
    return float(100 * (hits / (total.sum(0) + total.sum(1) - hits)).mean())


def at_severity(task: str, severity: float) -> list[Counts]:
    shift = Shift(severity=severity)
    return [confusions(task, target, 0, 12, shift) for target in MIRRORS[task].targets]


def test_every_field_of_a_domain_belongs_to_one_ingredient() -> None:
    moved = [name for names in FIELDS.values() for name in names]
    assert tuple(FIELDS) == INGREDIENTS
    assert sorted([*moved, "name"]) == sorted(field.name for field in fields(Domain))


@pytest.mark.parametrize(("task", "target"), TARGETS)
def test_the_ends_of_the_dial_are_source_and_target(task: str, target: str) -> None:
    for source in SETTINGS[task][MIRRORS[task].source]:
        for setting in SETTINGS[task][target]:
            assert shifted(source, setting, Shift()) == setting
            assert shifted(source, setting, Shift(severity=0)) == replace(source, name=setting.name)


def test_without_shift_a_target_scene_is_a_source_scene_of_another_place() -> None:
    for task, target in TARGETS:
        source = SETTINGS[task][MIRRORS[task].source]
        found = task_scene(task, target, 1, 64, Shift(severity=0))
        expected = render_scene(source[1 % len(source)], f"v1/{task}/{target}/1", 64)
        assert found.image.tobytes() == expected.image.tobytes()


def test_half_way_lies_half_way() -> None:
    half = shifted(SOURCE, SENTINEL2, Shift(severity=0.5))
    assert half.aod == pytest.approx((0.27, 0.415))
    assert half.plan.roads == pytest.approx((0.7, 1.2))
    assert half.pixel_factors == pytest.approx((1.165,))
    np.testing.assert_allclose(half.sensors[0].centres_nm, (488.7, 557.4, 662.3, 831.4))
    assert len(half.seasons) == 2, "of spring and summer each mixes with the source's summer"
    spring, summer = (season.covers[1]["paddy, flooded (LAI<1)"] for season in half.seasons)
    assert (spring, summer) == pytest.approx(((0.75 + 0.1) / 2, 0.1))
    for season in half.seasons:
        assert all(sum(shares.values()) == pytest.approx(1) for shares in season.covers.values())


def test_an_ingredient_moves_its_own_fields_alone() -> None:
    for ingredient, names in FIELDS.items():
        found = shifted(SOURCE, SENTINEL2, Shift(ingredients=(ingredient,)))
        for field in fields(Domain):
            whose = SENTINEL2 if field.name in (*names, "name") else SOURCE
            assert getattr(found, field.name) == getattr(whose, field.name)


@pytest.mark.parametrize("severity", [0.0, 0.5, 1.0])
def test_the_source_never_moves(severity: float) -> None:
    for task, mirror in MIRRORS.items():
        here = task_scene(task, mirror.source, 1, 64, Shift(severity=severity))
        assert here.image.tobytes() == task_scene(task, mirror.source, 1, 64).image.tobytes()


@pytest.mark.parametrize("task", MIRRORS)
def test_at_severity_0_the_drop_lies_within_noise(task: str) -> None:
    home, away = confusions(task, MIRRORS[task].source, 24, 48), np.concatenate(at_severity(task, 0))
    rng = np.random.default_rng(0)

    def again(counts: Counts) -> float:
        return pooled(counts[rng.integers(len(counts), size=len(counts))])

    drops = [again(home) - again(away) for _ in range(400)]
    assert np.quantile(drops, 0.005) < 0 < np.quantile(drops, 0.995)


@pytest.mark.parametrize("task", MIRRORS)
def test_the_drop_grows_with_severity(task: str) -> None:
    none, half, full = (
        float(np.mean([pooled(counts) for counts in at_severity(task, severity)])) for severity in (0.0, 0.5, 1.0)
    )
    assert none - 1 > half > full + 3
    assert none - 6 > full > 3, "the targets hurt"


def test_another_order_of_bands_is_catastrophic_and_does_it_alone() -> None:
    home = pooled(confusions("potsdam2vaihingen", "potsdam", 24, 36))
    bands = Shift(ingredients=("sensor",))
    assert home - pooled(confusions("potsdam2vaihingen", "vaihingen", 0, 12, bands)) > 20


def test_wrong_shifts_name_the_option() -> None:
    for severity in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"--severity .*: give a number from 0 to 1"):
            Shift(severity=severity)
    with pytest.raises(ValueError, match=r"--ingredients fog: unknown .*haze"):
        Shift(ingredients=("fog",))
    with pytest.raises(ValueError, match="--ingredients: name at least one"):
        Shift(ingredients=())
    assert Shift(ingredients=("season", "haze")) == Shift(ingredients=("haze", "season"))
    assert Shift(severity=0, ingredients=("haze",)) == Shift(severity=0)


# --- The reader and the program


@pytest.mark.parametrize("task", MIRRORS)
def test_the_shift_is_part_of_the_data(task: str) -> None:
    shifts = (Shift(), Shift(severity=0.5), Shift(severity=0), Shift(ingredients=("haze",)))
    readers = [embedded(task).open(replace(SIZES, shift=shift)) for shift in shifts]
    assert len({reader.fingerprint for reader in readers}) == len(readers)
    assert embedded(task).open(SIZES).fingerprint == readers[0].fingerprint
    tile = readers[0].tiles(MIRRORS[task].targets[0])[3]
    images = [reader.read(tile).image.tobytes() for reader in readers]
    assert len(set(images[:3])) == 3


def test_no_scene_is_rendered_twice_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []

    def spy(domain: Domain, key: str, px: int) -> Scene:
        rendered.append(key)
        return render_scene(domain, key, px)

    monkeypatch.setattr(scenes, "render_scene", spy)
    task_scene.cache_clear()
    for _ in range(2):
        reader = embedded("oem_cc").open(SIZES)
        for tile in reader.tiles("others") + reader.tiles("europe"):
            reader.read(tile)
    assert len(rendered) == len(set(rendered)) == 4 + 2


def test_a_task_that_a_suite_does_not_have_takes_part_in_it() -> None:
    def tasks(*names: str) -> list[str]:
        plan = make_plan(Request(suite="smoke", scale="test", tasks=names, methods=["frozen"]), None)
        return [planned.trial.task.name for planned in plan.trials]

    assert tasks() == ["fbp_cs"]
    assert tasks("flair_cr") == ["flair_cr"]
    assert sorted(tasks("all")) == sorted(TASKS)


def test_a_shift_changes_key_and_heading_and_nothing_else_does() -> None:
    def trial(shift: Shift) -> Trial:
        (planned,) = make_plan(Request(suite="smoke", scale="test", methods=["frozen"], shift=shift), None).trials
        return planned.trial

    plain, again = trial(AS_IS), trial(Shift(severity=1, ingredients=INGREDIENTS))
    half = trial(Shift(severity=0.5, ingredients=("season", "haze")))
    assert plain.key == again.key != half.key
    assert plain.labels()["recipe"] == ""
    assert half.labels()["recipe"] == "severity=0.5, ingredients=haze+season"


def test_a_shift_asks_for_scenes(program: Program, tmp_path: Path) -> None:
    for extra in (("--data-root", tmp_path), ("--scale", "paper")):
        result = program("plan", "--suite", "smoke", "--severity", 0.5, *extra)
        assert result.exit_code == 2
        assert f"--severity and --ingredients shift synthetic scenes: drop them or {extra[0]}" in result.text


def test_the_smoke_suite_runs_on_every_mirror(program: Program, tmp_path: Path) -> None:
    # two steps of one method here; the suite's other methods run on the first task in test_smoke
    result = program(*SHORT, "--task", "all", "--results", tmp_path)
    assert result.exit_code == 0, result
    records = bodies(tmp_path)
    assert {body["result"]["inputs"]["task"] for body in records.values()} == set(TASKS)
    for body in records.values():
        assert tuple(body["result"]["classes"]) == embedded(body["result"]["inputs"]["task"]).classes


def test_tables_of_two_severities_stand_apart(program: Program, tmp_path: Path) -> None:
    for extra in ((), ("--severity", 0.5)):
        assert program(*SHORT, "--results", tmp_path, *extra).exit_code == 0
    heads = {path.name: path.read_text().splitlines()[0] for path in (tmp_path / "test" / "tables").glob("*.md")}
    assert len(heads) == 2, heads
    assert sum("severity=0.5" in head for head in heads.values()) == 1
    assert sum("severity0.5" in name for name in heads) == 1
