"""Five-Billion-Pixels cross-region: regions by camera files and boundaries, the two Yichuns, resuming."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyproj
import pytest
import tifffile

from benchmarks.datasets.fbp_cr import YICHUN
from benchmarks.prepared.reader import open_prepared
from benchmarks.tasks import TileRef
from harness.prepare import plan_preparation
from tests import data_files
from tests.audits import Prepared, audited
from tests.conftest import ROOT, TINY, Program, Result, assert_refused, bodies, contents, run_process
from tests.fbp_files import PLACES, ground, sites, write_boundaries, write_fbp_cr, write_image, write_label
from tests.processes import wait_for

TASK = "fbp_cr"
TRIAL = ("--suite", "smoke", "--seeds", 1, *TINY[2:], "--method", "frozen", "--backbone", "dinov3", "--task", TASK)
STEMS = tuple(PLACES)
BOTH = ("--choose", "yichun=both")
manifest = partial(data_files.manifest, TASK)


def command(root: Path, *more: object, out: str = "data") -> list[object]:
    """Prepare `root/raw`, whose scenes are cut-outs, by `root/adm2.geojson`."""
    given = ("--boundaries", root / "adm2.geojson", "--choose", "scene_size=any")
    return data_files.command(TASK, root, *given, *more, out=out)


def prepare(program: Program, root: Path, *more: object, out: str = "data") -> Result:
    return program(*command(root, *more, out=out))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with eight scenes in `raw` and boundaries."""
    write_fbp_cr(tmp_path / "raw")
    write_boundaries(tmp_path / "adm2.geojson")
    return tmp_path


def test_regions_domains_and_notes(program: Program, root: Path) -> None:
    result = prepare(program, root, *BOTH)
    assert result.exit_code == 0, result
    assert "seen: prepared 3 tiles of 3 scenes" in result.text
    assert "unseen: prepared 5 tiles of 5 scenes; 150 less 126 scenes: 24 scenes, 5040 tiles" in result.text
    assert "26457 to 26464 tiles" in result.text
    assert "Yichun of the paper: both, as chosen (target scenes: heilongjiang 5, jiangxi 4, both 5)" in result.text
    regions = ["Lanzhou", "Chongqing", "wuzhong", "Baoding", "Urumqi", "Xiamen", YICHUN["heilongjiang"], "Wuzhong"]
    made = manifest(root)
    assert {row.scene: (row.domain, row.side, row.region) for row in made.tiles} == {
        stem: (*(("seen", "source") if i < 3 else ("unseen", "target")), region)
        for i, (stem, region) in enumerate(zip(STEMS, regions, strict=True))
    }
    header = made.header
    assert (header.label_map_id, header.choices["yichun"], set(header.extras)) == ("fbp24", "both", {"boundaries"})
    notes = "\n".join(header.notes)
    for words in (
        "no scene lies in the target regions Hangzhou; Langfang; Qiqihar; Shenyang; Xiaogan; Yichun, Jiangxi; Yuxi",
        "the centres of 2 scenes lie outside every region or within 10 km of another",
        f"unseen/{STEMS[3]}: its centre lies 4.8 km from Cangzhou",
        f"unseen/{STEMS[5]}: its centre lies 9.0 km outside Xiamen, the nearest region",
    ):
        assert words in notes
    with (root / "data" / TASK / "regions.csv").open(newline="", encoding="utf-8") as file:
        table = {row["stem"]: row for row in csv.DictReader(file)}
    assert list(table) == sorted(STEMS)
    for stem, region in zip(STEMS, regions, strict=True):
        assert (float(table[stem]["lon"]), float(table[stem]["lat"])) == pytest.approx(PLACES[stem])
        assert table[stem]["region"] == region
    assert "Cangzhou" in table[STEMS[3]]["notes"]


def test_tiles_and_their_footprints(program: Program, tmp_path: Path) -> None:
    files = write_fbp_cr(tmp_path / "raw", px=100)
    write_boundaries(tmp_path / "adm2.geojson")
    assert prepare(program, tmp_path, *BOTH).exit_code == 0
    reader, size = open_prepared(tmp_path / "data", TASK), {"height": 208, "width": 200}
    for row in manifest(tmp_path).tiles:
        window, file = row.window, files[row.scene]
        sample = reader.read(TileRef(domain=row.domain, scene=row.scene, name=row.tile))
        box = np.s_[window.row - 54 :, window.col - 60 :]
        np.testing.assert_array_equal(
            sample.image[: window.height, : window.width], file.image[box][: window.height, : window.width]
        )
        raw = file.raw[box][: window.height, : window.width].astype(int)
        np.testing.assert_array_equal(
            sample.label[: window.height, : window.width], np.where(raw == 0, 255, raw - 1).astype(np.uint8)
        )
        bottom, right = window.row + window.height, window.col + window.width
        pixels = [(window.row, window.col), (window.row, right), (bottom, right), (bottom, window.col)]
        corners = [ground(*PLACES[row.scene], *pixel, **size) for pixel in pixels]
        np.testing.assert_allclose(row.footprint or (), corners, rtol=0, atol=2e-4)
        assert (row.georef, row.date) == ("rpc", None)


def test_a_scene_without_margins_lies_where_the_whole_one_does(
    program: Program, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.datasets.fbp_scenes.ANNOTATED", (64, 64))
    stem, folder = STEMS[0], root / "raw"
    image = tifffile.imread(folder / "Image__8bit_NirRGB" / f"{stem}.tif")[54:-54, 60:-40]
    write_image(folder / "Image__8bit_NirRGB" / f"{stem}.tif", image)
    write_label(folder / "Annotation__index" / f"{stem}_24label.png", np.full((64, 64), 3, np.uint8), mode="L")
    assert prepare(program, root, *BOTH).exit_code == 0
    corners = {
        row.scene: np.subtract(row.footprint or (), PLACES[row.scene])
        for row in manifest(root).tiles
        if row.scene in STEMS[:2]
    }
    np.testing.assert_allclose(corners[stem], corners[STEMS[1]], rtol=0, atol=1e-6)
    (window,) = (row.window for row in manifest(root).tiles if row.scene == stem)
    assert (window.row, window.col) == (0, 0)


def distance_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    return float(pyproj.Geod(ellps="WGS84").inv(*one, *other)[2]) / 1000


def test_verify_audit_stats_and_a_trial(program: Program, root: Path) -> None:
    assert prepare(program, root, *BOTH).exit_code == 0
    data = ("--data", root / "data", "--workers", 1)
    assert program("data", "verify", TASK, *data).exit_code == 0
    audit = audited(Prepared(program, root / "data", TASK), 0)
    assert {name: pair["outcome"] for name, pair in audit.items()} == dict.fromkeys(audit, "verified disjoint")
    assert [pair["ground"]["accuracy_km"] for pair in audit.values()] == [0.6, 0.6], "two cameras"
    nearest = min(distance_km(PLACES[a], PLACES[b]) for a in STEMS[:3] for b in STEMS[3:])
    assert audit["unseen"]["ground"]["nearest_km"] == pytest.approx(nearest, rel=0.1)
    result = program("data", "stats", TASK, *data)
    assert result.exit_code == 0, result
    assert "unseen less seen" in result.text
    result = program(*TRIAL, "--data-root", root / "data", "--results", root / "results")
    assert result.exit_code == 0, result
    (body,) = bodies(root / "results").values()
    assert len(body["result"]["classes"]) == 24
    assert "Five-Billion-Pixels cross-region" in result.text


# --- What may be wrong


def test_boundaries_are_asked_for_and_only_where_needed(program: Program, root: Path) -> None:
    where = ("--raw", root / "raw", "--out", root / "data")
    result = program("data", "prepare", TASK, *where)
    assert_refused(result, "fbp_cr needs --boundaries FILE", "ADM2", "GeoJSON", "www.geoboundaries.org")
    needless = program("data", "prepare", "loveda_r2u", *where, "--boundaries", root / "adm2.geojson")
    assert_refused(needless, "--boundaries", "loveda_r2u needs no such file")
    assert_refused(program("data", "prepare", TASK, *where, "--boundaries", root), "is no file", "geoboundaries")
    assert not (root / "data").exists()


def without_camera(root: Path) -> None:
    (root / "raw" / "Coordinate_files" / f"{STEMS[1]}.rpb").unlink()


def damaged_camera(root: Path) -> None:
    (root / "raw" / "Coordinate_files" / f"{STEMS[1]}.rpb").write_text("<html>")


def provinces(root: Path) -> None:
    write_boundaries(root / "adm2.geojson", leave=("Xiaogan",))


def part_of_china(root: Path) -> None:
    write_boundaries(root / "adm2.geojson", leave=("Chongqing",))


def other_field(root: Path) -> None:
    write_boundaries(root / "adm2.geojson", field="pinyin")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_camera, (f"{STEMS[1]}.rpb (1 such images)", "Coordinate_files")),
        (damaged_camera, (f"{STEMS[1]}.rpb", "no whole set")),
        (provinces, ("no region Xiaogan at 113.92 E, 30.92 N (there: nothing)", "ADM2")),
        (part_of_china, (f"within 50 km of {STEMS[1]} at 106.550 E",)),
        (other_field, ("no layers with a field", "pinyin")),
    ],
)
def test_traps(program: Program, root: Path, spoil: Callable[[Path], None], words: tuple[str, ...]) -> None:
    (root / "adm2.geojson").unlink() if spoil in (provinces, part_of_china, other_field) else None
    spoil(root)
    assert_refused(prepare(program, root, *BOTH), *words)


# --- The boundaries are a part of what makes the tiles


def test_boundaries_that_tell_other_regions_are_another_choice(program: Program, root: Path) -> None:
    assert prepare(program, root, *BOTH).exit_code == 0
    before = contents(root / "data")
    copy = root / "copy.gpkg"
    write_boundaries(copy, field="NAME_2")
    same = ("--boundaries", copy)  # the last one counts
    assert "8 already prepared, 0 to do" in prepare(program, root, *BOTH, *same).text
    assert contents(root / "data") == before
    other = root / "adm2.geojson"
    other.write_text(other.read_text().replace("Chongqing", "Chungking"))
    words = ("prepared by another --boundaries", STEMS[1], "seen of Chongqing there, seen of Chungking now", "--out")
    assert_refused(prepare(program, root, *BOTH), *words)
    choose = ("scene_size=any", "yichun=both")
    here, there = (
        plan_preparation(TASK, root / "raw", root / "other", 64, choose, {"boundaries": path}) for path in (other, copy)
    )
    differ = [a.name for a, b in zip(here.scenes, there.scenes, strict=True) if here.made_of(a) != there.made_of(b)]
    assert differ == [STEMS[1]]


@pytest.mark.slow
def test_killed_and_resumed_the_manifest_is_the_same(program: Program, tmp_path: Path) -> None:
    write_fbp_cr(tmp_path / "raw", sites(3, 2, 21))
    write_boundaries(tmp_path / "adm2.geojson")
    assert prepare(program, tmp_path, out="whole").exit_code == 0
    folder, chance = tmp_path / "data" / TASK, random.Random(7)

    def parts() -> list[Path]:
        return [part for domain in ("seen", "unseen") for part in (folder / domain).glob("*/part.jsonl")]

    for moment in (1, 14):
        line = [sys.executable, "run.py", *map(str, command(tmp_path, "--workers", 2))]
        with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_for(process, lambda at=moment: len(parts()) >= at)
            time.sleep(chance.uniform(0, 0.02))
            process.kill()
        assert not (folder / "manifest.jsonl").exists()
    result = run_process(*command(tmp_path, "--workers", 2))
    assert result.exit_code == 0, result
    lock = {".lock": b""}
    assert contents(folder) | lock == contents(tmp_path / "whole" / TASK) | lock
    assert "regions.csv" in contents(folder)
