"""ISPRS Potsdam to Vaihingen from the official archives: colours, shifted edges, footprints, names that are alike."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyproj
import pytest
import tifffile

from benchmarks.legends import ISPRS_6
from benchmarks.prepared.labels import load_labels
from benchmarks.prepared.manifest import Manifest, load_manifest
from benchmarks.prepared.reader import open_prepared
from benchmarks.tasks import TileRef
from tests.conftest import TINY, Program, Result, assert_refused, bodies
from tests.data_files import tiff, write_isprs

TASK = "potsdam2vaihingen"
TRIAL = ("--suite", "all", "--seeds", 1, *TINY[2:], "--method", "frozen", "--backbone", "dinov3", "--task", TASK)


def prepare(program: Program, root: Path, *more: object, out: str = "data") -> Result:
    """Prepare `root/raw` in tiles of 64 pixels."""
    where = ("--raw", root / "raw", "--out", root / out, "--tile", 64, "--workers", 1)
    return program("data", "prepare", TASK, *where, *more)


def manifest(root: Path, out: str = "data") -> Manifest:
    return load_manifest(root / out / TASK / "manifest.jsonl")


def test_the_label_map_is_the_legend() -> None:
    assert {value.target: value.colour for value in load_labels("isprs6").values[1:]} == ISPRS_6
    assert load_labels("isprs6").classes == tuple(ISPRS_6)


def test_tiles_labels_and_footprints(program: Program, tmp_path: Path) -> None:
    files = write_isprs(tmp_path / "raw")
    result = prepare(program, tmp_path)
    assert result.exit_code == 0, result
    assert "potsdam: prepared 27 tiles of 3 scenes" in result.text
    assert "vaihingen: prepared 30 tiles of 3 scenes" in result.text
    reader, degrees = open_prepared(tmp_path / "data", TASK), pyproj.Transformer.from_crs(25833, 4326, always_xy=True)
    starts = set()
    for row in manifest(tmp_path).tiles:
        image, raw = files[row.scene]
        assert (row.window.height, row.window.width) == (64, 64)
        box = np.s_[row.window.row : row.window.row + 64, row.window.col : row.window.col + 64]
        sample = reader.read(TileRef(domain=row.domain, scene=row.scene, name=row.tile))
        np.testing.assert_array_equal(sample.image, image[box])
        np.testing.assert_array_equal(sample.label, np.where(raw[box] == 0, 255, raw[box].astype(int) - 1))
        if row.domain == "vaihingen":
            assert (row.footprint, row.georef, row.bands) == (None, "none", "NIR:765 R:635 G:560")
            continue
        starts.add(row.window.col)
        assert row.georef == "geotiff"
        left = 366_676 + 300 * ("2_10", "6_7", "7_10").index(row.scene.removeprefix("top_potsdam_"))
        x, y = left + 0.05 * row.window.col, 5_808_000 - 0.05 * row.window.row
        corners = [degrees.transform(x + dx, y - dy) for dx, dy in ((0, 0), (3.2, 0), (3.2, 3.2), (0, 3.2))]
        np.testing.assert_allclose(row.footprint, corners, atol=2e-7)
    assert starts == {0, 64, 150 - 64}


def test_choices(program: Program, tmp_path: Path) -> None:
    write_isprs(tmp_path / "raw")
    less = ("--choose", "potsdam_7_10=drop", "--choose", "target=test")
    assert prepare(program, tmp_path, *less).exit_code == 0
    scenes = {row.scene for row in manifest(tmp_path).tiles}
    assert scenes == {"top_potsdam_2_10", "top_potsdam_6_7", "area2", "area38"}
    assert_refused(prepare(program, tmp_path, "--choose", "labels=full", out="b"), "no labels", "5_Labels_all.zip")


def test_full_labels_have_the_names_of_the_images(program: Program, tmp_path: Path) -> None:
    files = write_isprs(tmp_path / "raw", ending="")
    assert prepare(program, tmp_path, "--choose", "labels=full").exit_code == 0
    row = next(row for row in manifest(tmp_path).tiles if row.scene == "area38")
    label = files["area38"][1][:64, :64]
    assert row.histogram == {int(v) - 1: int((label == v).sum()) for v in np.unique(label[label > 0])}


@pytest.mark.parametrize(("share", "code"), [(0.005, 0), (0.03, 2)], ids=["few", "many"])
def test_colours_outside_the_legend(program: Program, tmp_path: Path, share: float, code: int) -> None:
    files = write_isprs(tmp_path / "raw")
    palette = np.array([value.colour for value in load_labels("isprs6").values], np.uint8)
    colours = palette[files["area1"][1]]
    count = int(share * colours.shape[0] * colours.shape[1])
    colours.reshape(-1, 3)[:count] = (252, 255, 0)
    archive = tmp_path / "raw" / "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip"
    with zipfile.ZipFile(archive) as old:
        kept = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(archive, "w") as new:
        for name, data in kept.items():
            new.writestr(name, tiff(colours) if "area1_" in name else data)
    result = prepare(program, tmp_path)
    assert result.exit_code == code, result
    told = f"{count} pixels of colours outside the legend" if code == 0 else "area1_noBoundary.tif"
    assert told in result.text
    if code == 0:
        assert manifest(tmp_path).header.notes == (f"vaihingen/area1: {told} are ignored",)
    else:
        assert "252,255,0" in result.text


def test_verify_stats_and_a_trial(program: Program, tmp_path: Path) -> None:
    files = write_isprs(tmp_path / "raw")
    prepare(program, tmp_path, "--choose", "edge=pad")
    data = ("--data", tmp_path / "data", "--workers", 1)
    assert program("data", "verify", TASK, *data).exit_code == 0
    assert program("data", "stats", TASK, *data).exit_code == 0
    result = program(*TRIAL, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    (body,) = bodies(tmp_path / "results").values()
    source = np.concatenate([image.reshape(-1, 3) for name, (image, _) in files.items() if "potsdam" in name])
    np.testing.assert_allclose(body["result"]["statistics"]["mean"], source.mean(0), rtol=1e-12)
    np.testing.assert_allclose(body["result"]["statistics"]["std"], source.std(0), rtol=1e-12)


def test_the_fixture_is_a_geotiff_of_the_official_kind(tmp_path: Path) -> None:
    write_isprs(tmp_path)
    with zipfile.ZipFile(tmp_path / "2_Ortho_RGB.zip") as archive, archive.open(archive.namelist()[0]) as file:
        assert tifffile.TiffFile(file).pages.first.geotiff_tags["ProjectedCSTypeGeoKey"] == 25833
