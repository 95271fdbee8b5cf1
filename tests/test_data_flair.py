"""FLAIR cross-region from both official layouts: five bands, masks without a named grid, two test sets."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyproj
import pytest

from benchmarks.catalogue import FLAIR_CR
from benchmarks.datasets.flair import PATCHES, RECIPE, departments, find_scenes
from benchmarks.legends import FLAIR_12
from benchmarks.prepared.boundaries import PREFECTURES
from benchmarks.prepared.georef import geotiff_place
from benchmarks.prepared.labels import load_labels
from benchmarks.prepared.raw import RawTree
from benchmarks.prepared.reader import open_prepared
from benchmarks.prepared.recipe import Choices, Scene
from benchmarks.tasks import TileRef
from tests import data_files
from tests.aerial_files import FLAIR_ZONES, LAMBERT_93, UNNAMED, flair_corner, geotiff, write_flair
from tests.audits import Prepared, audited
from tests.conftest import TINY, Program, assert_refused, bodies

TASK = "flair_cr"
TRIAL = ("--suite", "smoke", "--seeds", 1, *TINY[2:], "--method", "frozen", "--backbone", "dinov3", "--task", TASK)
prepare = partial(data_files.prepare, TASK)
manifest = partial(data_files.manifest, TASK)


def unpack(raw: Path) -> Path:
    """Unpack all archives where they lie; the folder of the patch that tests spoil."""
    for archive in list(raw.rglob("*.zip")):
        with zipfile.ZipFile(archive) as file:
            file.extractall(archive.parent)
        archive.unlink()
    return raw


def image_of(raw: Path) -> Path:
    return raw / "flair_aerial_train" / "D004_2021" / "Z10_AU" / "img" / "IMG_000826.tif"


def mask_of(raw: Path) -> Path:
    return raw / "flair_labels_train" / "D004_2021" / "Z10_AU" / "msk" / "MSK_000826.tif"


def test_the_label_map_is_the_legend() -> None:
    labels = load_labels("flair19_to_12")
    assert labels.classes == tuple(FLAIR_12)
    assert {value.target: value.colour for value in labels.values if value.target} == FLAIR_12
    assert [value.raw for value in labels.values if value.target is None] == [0, *range(13, 20)]


def test_the_official_sets() -> None:
    sets = {name: departments(name) for name in PATCHES}
    assert {name: len(found) for name, found in sets.items()} == {"train": 40, "flair1": 10, "flair2": 10}
    assert sets["train"].keys().isdisjoint({*sets["flair1"], *sets["flair2"]})
    assert sorted(sets["flair1"].keys() & sets["flair2"].keys()) == ["D022", "D026", "D064", "D068", "D071"]
    assert len({code for found in sets.values() for code in found}) == 55
    assert sets["train"]["D077"] == "D077_2021"
    with (Path(__file__).parents[1] / "benchmarks" / "datasets" / "regions" / "flair.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 60


def test_tiles_labels_scenes_and_footprints(program: Program, tmp_path: Path) -> None:
    files = write_flair(tmp_path / "raw")
    result = prepare(program, tmp_path)
    assert result.exit_code == 0, result
    assert "10 images of 5 scenes, 0 already prepared, 10 to do" in result.text
    assert "seen: prepared 6 tiles of 3 scenes; official count of train-val: 61712 tiles" in result.text
    assert "released schedule: 61705 to 61712 tiles" in result.text
    assert "unseen: prepared 4 tiles of 2 scenes; official count of the test set: 15700 tiles" in result.text
    degrees = pyproj.Transformer.from_crs(2154, 4326, always_xy=True)
    reader, rows = open_prepared(tmp_path / "data", TASK), manifest(tmp_path).tiles
    assert len(rows) == 10
    for row in rows:
        name = row.tile.removesuffix("_r001_c001")
        image, raw = files[name]
        sample = reader.read(TileRef(domain=row.domain, scene=row.scene, name=row.tile))
        np.testing.assert_array_equal(sample.image, image[..., :4])
        np.testing.assert_array_equal(sample.label, np.where(raw > 12, 255, raw.astype(int) - 1))
        assert row.scene == name.rpartition("_")[0]
        assert row.region == row.scene[:9]
        assert row.bands == "R:635 G:550 B:470 NIR:800"
        assert row.georef == "geotiff"
        x, y = flair_corner(row.scene, name[-6:])
        corners = [degrees.transform(x + dx, y - dy) for dx, dy in ((0, 0), (12.8, 0), (12.8, 12.8), (0, 12.8))]
        np.testing.assert_allclose(row.footprint, corners, atol=2e-7)
    assert {row.side: row.domain for row in rows} == {"source": "seen", "target": "unseen"}
    assert "values 13 to 19" in manifest(tmp_path).header.notes[0]
    assert "the height above ground, is left out" in result.text
    assert [band.name for band in FLAIR_CR.bands] == ["R", "G", "B", "NIR"]


def test_a_number_that_two_departments_share_pairs_within_its_own(program: Program, tmp_path: Path) -> None:
    files = write_flair(tmp_path / "raw")
    assert {"D004_2021_Z10_AU_000826", "D006_2020_Z1_UU_000826"} <= files.keys()
    prepare(program, tmp_path)
    for row in manifest(tmp_path).tiles:
        raw = files[row.tile.removesuffix("_r001_c001")][1]
        assert row.histogram == {int(v) - 1: int((raw == v).sum()) for v in np.unique(raw[raw < 13])}


def test_the_hubs_archives_give_the_same_tiles_packed_or_not(program: Program, tmp_path: Path) -> None:
    write_flair(tmp_path / "raw")
    prepare(program, tmp_path)
    write_flair(tmp_path / "hub" / "raw", layout="hub")
    assert prepare(program, tmp_path / "hub").exit_code == 0
    for archive in list((tmp_path / "hub" / "raw").rglob("*.zip")):
        with zipfile.ZipFile(archive) as file:
            file.extractall(archive.with_suffix(""))
        archive.unlink()
    assert prepare(program, tmp_path / "hub", out="plain").exit_code == 0
    tiles = [manifest(tmp_path).tiles, manifest(tmp_path / "hub").tiles, manifest(tmp_path / "hub", "plain").tiles]
    assert tiles[0] == tiles[1] == tiles[2]


@pytest.mark.parametrize("layout", ["original", "hub"])
def test_the_other_test_set(program: Program, tmp_path: Path, layout: str) -> None:
    write_flair(tmp_path / "raw", layout=layout)
    result = prepare(program, tmp_path, "--choose", "target=flair2")
    assert "16050 tiles" in result.text
    scenes = {row.scene for row in manifest(tmp_path).tiles if row.side == "target"}
    assert scenes == {"_".join(zone) for zone in FLAIR_ZONES["flair2"]}


def test_departments_that_are_not_there_are_named_and_kept(program: Program, tmp_path: Path) -> None:
    write_flair(tmp_path / "raw")
    result = prepare(program, tmp_path)
    (_, note) = manifest(tmp_path).header.notes
    assert note.startswith("46 of 50 departments are not there: D007_2020, ")
    assert "D091_2021, D026_2020" in note
    assert "D004" not in note
    assert note in result.text


def lost_mask(raw: Path) -> None:
    mask_of(raw).unlink()


def no_test(raw: Path) -> None:
    for path in raw.glob("flair_1_*/*/*/*/*"):
        path.unlink()


def rgbi(raw: Path) -> None:
    image_of(raw).write_bytes(geotiff(np.full((64, 64, 4), 9, np.uint8), LAMBERT_93, 700_000, 6_500_000, 0.2))


def from_zero(raw: Path) -> None:
    mask_of(raw).write_bytes(geotiff(np.zeros((64, 64), np.uint8), UNNAMED, *flair_corner("D004", "826"), 0.2))


def beyond(raw: Path) -> None:
    mask_of(raw).write_bytes(geotiff(np.full((64, 64), 20, np.uint8), UNNAMED, *flair_corner("D004", "826"), 0.2))


def elsewhere(raw: Path) -> None:
    mask_of(raw).write_bytes(geotiff(np.full((64, 64), 3, np.uint8), UNNAMED, *flair_corner("D004", "827"), 0.2))


def other_size(raw: Path) -> None:
    mask_of(raw).write_bytes(geotiff(np.full((64, 60), 3, np.uint8), UNNAMED, *flair_corner("D004", "826"), 0.2))


def coloured(raw: Path) -> None:
    mask_of(raw).write_bytes(geotiff(np.full((64, 64, 3), 3, np.uint8), None))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lost_mask, ("IMG_000826.tif has no mask", "D004_2021")),
        (no_test, ("no patches of the test set flair1", "D004_2021")),
        (rgbi, ("IMG_000826.tif has 4 band(s)", "FLAIR-HUB")),
        (from_zero, ("MSK_000826.tif holds the value 0", "FLAIR-HUB")),
        (beyond, ("MSK_000826.tif holds the value 20", "0 to 19")),
        (elsewhere, ("MSK_000826.tif lies at", "IMG_000826.tif")),
        (other_size, ("60 x 64",)),
        (coloured, ("three bands",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_right_is_refused(
    program: Program, tmp_path: Path, spoil: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    write_flair(tmp_path / "raw")
    spoil(unpack(tmp_path / "raw"))
    result = prepare(program, tmp_path)
    assert result.exit_code == 2, result
    assert all(word in result.text for word in words), result.text
    assert "Traceback" not in result.err


def test_few_unlabelled_pixels_are_ignored_and_noted(program: Program, tmp_path: Path) -> None:
    files = write_flair(tmp_path / "raw")
    raw = unpack(tmp_path / "raw")
    label = files["D004_2021_Z10_AU_000826"][1].copy()
    label[0, :7] = 0
    mask_of(raw).write_bytes(geotiff(label, UNNAMED, *flair_corner("D004", "826"), 0.2))
    assert prepare(program, tmp_path).exit_code == 0
    notes = manifest(tmp_path).header.notes
    assert notes[2:] == ("seen/D004_2021_Z10_AU_000826: 7 pixels of the value 0 are ignored",)
    row = next(row for row in manifest(tmp_path).tiles if row.tile.startswith("D004_2021_Z10_AU_000826"))
    assert sum(row.histogram.values()) == ((label > 0) & (label < 13)).sum()


def test_a_mask_gives_the_place_that_its_image_does_not(program: Program, tmp_path: Path) -> None:
    files = write_flair(tmp_path / "raw")
    raw = unpack(tmp_path / "raw")
    prepare(program, tmp_path)
    image_of(raw).write_bytes(geotiff(files["D004_2021_Z10_AU_000826"][0], None))
    assert prepare(program, tmp_path, out="again").exit_code == 0
    assert [row.footprint for row in manifest(tmp_path).tiles] == [
        row.footprint for row in manifest(tmp_path, "again").tiles
    ]
    mask_of(raw).write_bytes(geotiff(files["D004_2021_Z10_AU_000826"][1], None))
    assert prepare(program, tmp_path, out="nowhere").exit_code == 0
    assert [row.georef for row in manifest(tmp_path, "nowhere").tiles].count("none") == 1


def test_verify_audit_stats_and_a_trial(program: Program, tmp_path: Path) -> None:
    files = write_flair(tmp_path / "raw")
    prepare(program, tmp_path)
    data = ("--data", tmp_path / "data", "--workers", 1)
    result = program("data", "verify", TASK, *data)
    assert result.exit_code == 0, result
    audit = audited(Prepared(program, tmp_path / "data", TASK), 0)
    assert {name: pair["outcome"] for name, pair in audit.items()} == dict.fromkeys(audit, "verified disjoint")
    assert [pair["ground"]["methods"] for pair in audit.values()] == [[["geotiff"], ["geotiff"]]] * 2
    assert audit["source_val"]["ground"]["nearest_km"] == pytest.approx(0.0128, abs=5e-4), "neighbours of 12.8 m"
    assert program("data", "stats", TASK, *data).exit_code == 0
    result = program(*TRIAL, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    (body,) = bodies(tmp_path / "results").values()
    source = np.concatenate(
        [image[..., :4].reshape(-1, 4) for name, (image, _) in files.items() if name[:4] in ("D004", "D006")]
    )
    np.testing.assert_allclose(body["result"]["statistics"]["mean"], source.mean(0), rtol=1e-12)
    np.testing.assert_allclose(body["result"]["statistics"]["std"], source.std(0), rtol=1e-12)
    assert body["result"]["classes"] == list(FLAIR_12)


def test_a_users_file_that_moves_a_scene_of_several_images(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(tree: RawTree, choices: Choices) -> list[Scene]:
        return [replace(scene, region=tree.extras["boundaries"].read_text()) for scene in find_scenes(tree, choices)]

    recipe = replace(RECIPE, needs=(PREFECTURES,), find=find)
    monkeypatch.setattr("benchmarks.datasets.flair.RECIPE", recipe)
    write_flair(tmp_path / "raw")
    told = tmp_path / "regions.txt"
    told.write_text("here")
    assert prepare(program, tmp_path, "--boundaries", told).exit_code == 0
    told.write_text("there")
    words = ("another --boundaries", "D004_2021_Z10_AU is seen of here there, seen of there now")
    assert_refused(prepare(program, tmp_path, "--boundaries", told), *words)


def test_the_masks_of_the_copy_name_no_system(tmp_path: Path) -> None:
    write_flair(tmp_path)
    (mask,) = [file for _, file in RawTree(tmp_path).match(r"D004_2021/Z10_AU/msk/MSK_000826\.tif")]
    assert geotiff_place(mask) is None
    place = geotiff_place(mask, unnamed=2154)
    assert place is not None
    assert (place.epsg, place.left, place.top) == (2154, *flair_corner("D004", "826"))


def test_without_any_archive(program: Program, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "D004_2021.tar.gz").write_bytes(b"x")
    assert_refused(prepare(program, tmp_path), "no patches of the train-val", "D004_2021.tar.gz (unpack them)")
