"""Five-Billion-Pixels from the authors' folders: margins, CMYK tags, windows, both encodings of labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks.datasets.fbp import open_fbp
from benchmarks.legends import FBP_24
from benchmarks.prepared.labels import load_labels
from benchmarks.tasks import TileRef
from tests import data_files
from tests.audits import Prepared, audited
from tests.conftest import TINY, Program, Result, assert_refused, bodies
from tests.data_files import write_fbp_official
from tests.fbp_files import SCENES, ground, write_fbp, write_image, write_label, write_rpb

TASK = "fbp_cs"
GF2 = SCENES["gf2"][0]
manifest = partial(data_files.manifest, TASK)


def prepare(program: Program, root: Path, *more: object, out: str = "data", tile: int = 128) -> Result:
    """Prepare `root/raw`, whose GF-2 scenes are cut-outs."""
    return data_files.prepare(TASK, program, root, "--choose", "scene_size=any", *more, out=out, tile=tile)


def tile(root: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A tile by name, through the door that training uses."""
    reader = open_fbp(root / "data")
    row = next(row for row in manifest(root).tiles if row.tile == name)
    sample = reader.read(TileRef(domain=row.domain, scene=row.scene, name=name))
    return sample.image, sample.label


def test_the_label_map_is_the_legend() -> None:
    values = load_labels("fbp24").values
    assert {value.target: value.colour for value in values[1:]} == FBP_24
    assert load_labels("fbp24").classes == tuple(FBP_24)


def test_margins_fill_and_labels_of_the_source(program: Program, tmp_path: Path) -> None:
    files = write_fbp_official(tmp_path / "raw")
    result = prepare(program, tmp_path)
    assert result.exit_code == 0, result
    assert "gf2: prepared 12 tiles of 3 scenes" in result.text
    assert "31497 to 31504 tiles" in result.text
    image, raw = files[GF2]
    for name, box in (("r001_c001", np.s_[:128, :128]), ("r002_c002", np.s_[128:148, 128:148])):
        got, label = tile(tmp_path, f"{GF2}_{name}")
        height, width = raw[box].shape
        np.testing.assert_array_equal(got[:height, :width], image[box])
        np.testing.assert_array_equal(label[:height, :width], np.where(raw[box] == 0, 255, raw[box].astype(int) - 1))
        assert not got[height:].any()
        assert not got[:, width:].any()
        assert (label[height:] == 255).all()
    rows = {row.tile: row for row in manifest(tmp_path).tiles}
    window = rows[f"{GF2}_r002_c002"].window
    assert (window.row, window.col, window.height, window.width) == (54 + 128, 60 + 128, 20, 20)
    assert rows[f"{GF2}_r002_c002"].valid_fraction == pytest.approx(400 / 128**2, abs=1e-6)
    assert rows[f"{GF2}_r001_c001"].bands == "NIR:830 R:660 G:555 B:485"


def test_windows_and_labels_of_the_targets(program: Program, tmp_path: Path) -> None:
    files = write_fbp_official(tmp_path / "raw", target_px=1100)
    result = prepare(program, tmp_path, tile=512)
    assert "planetscope, gf1, sentinel2: prepared 24 tiles of 6 scenes" in result.text
    rows = manifest(tmp_path).tiles
    cities = {row.scene: row.region for row in rows if row.side == "target"}
    assert sorted(cities.values()) == ["Beijing", "Chengdu", "Guangzhou", "Shanghai", "Wuhan", "Wuhan"]
    for row in rows:
        if row.side == "target":
            image, raw = files[row.scene]
            found_rows, found_cols = np.nonzero(raw.any(1))[0], np.nonzero(raw.any(0))[0]
            corner = []
            for found, size in ((found_rows, raw.shape[0]), (found_cols, raw.shape[1])):
                middle = (found[0] + found[-1] + 1) // 2
                corner.append(int(np.clip(middle - 512, 0, size - 1024)))
            offset = row.window.row - corner[0], row.window.col - corner[1]
            assert set(offset) <= {0, 512}
            box = np.s_[row.window.row : row.window.row + 512, row.window.col : row.window.col + 512]
            got, label = tile(tmp_path, row.tile)
            np.testing.assert_array_equal(got, image[box])
            np.testing.assert_array_equal(label, np.where(raw[box] == 0, 255, raw[box].astype(int) - 1))


def test_the_whole_labelled_area_and_shifted_edges(program: Program, tmp_path: Path) -> None:
    write_fbp_official(tmp_path / "raw", target_px=1100)
    result = prepare(program, tmp_path, "--choose", "target_window=all", "--choose", "edge=shift", tile=512)
    assert result.exit_code == 0, result
    for row in manifest(tmp_path).tiles:
        if row.side == "target":
            assert (row.window.height, row.window.width) == (512, 512)
    rows = [row for row in manifest(tmp_path).tiles if row.scene == SCENES["planetscope"][0]]
    assert max(row.window.row + 512 for row in rows) == 1000
    assert min(row.window.row for row in rows) == 0


def test_places_and_dates_as_far_as_names_tell(program: Program, tmp_path: Path) -> None:
    write_fbp_official(tmp_path / "raw")
    write_rpb(tmp_path / "raw" / f"{GF2}.rpb", 114.0, 30.0, height=256, width=248)
    assert prepare(program, tmp_path).exit_code == 0
    made = manifest(tmp_path)
    assert made.header.label_map_id == "fbp24"
    facts = {row.scene: (row.georef, row.date) for row in made.tiles}
    assert facts == {
        **dict.fromkeys(SCENES["gf2"][1:3], ("none", None)),
        GF2: ("rpc", None),
        SCENES["planetscope"][0]: ("table", "2019-07-13"),
        SCENES["planetscope"][1]: ("table", "2019-08-21"),
        SCENES["gf1"][0]: ("name", "2016-03-28"),
        SCENES["gf1"][1]: ("name", "2016-06-14"),
        SCENES["sentinel2"][0]: ("mgrs", "2021-09-29"),
        SCENES["sentinel2"][1]: ("mgrs", "2021-02-18"),
    }
    inside = {"Chengdu": (104.07, 30.66), "Shanghai": (121.47, 31.23), "Beijing": (116.4, 39.9)}
    inside |= {"Guangzhou": (113.26, 23.13)}
    for row in made.tiles:
        if row.footprint and row.side == "target":
            (west, north), (east, south) = row.footprint[0], row.footprint[2]
            name = row.scene.split("_")
            lon, lat = inside.get(row.region) or (float(name[2][1:]), float(name[3][1:]))
            assert west < lon < east, row
            assert south < lat < north, row
    rows = {row.tile: row for row in made.tiles}
    corner = ground(114.0, 30.0, 54 + 128, 60 + 128, height=256, width=248)
    assert (rows[f"{GF2}_r002_c002"].footprint or [()])[0] == pytest.approx(corner, abs=2e-4)


def test_planetscope_at_the_source_s_sampling_distance(program: Program, tmp_path: Path) -> None:
    """Eight pixels become six: in blocks of eight, those six keep the block's value."""
    files = write_fbp_official(tmp_path / "raw")
    stem = SCENES["planetscope"][0]
    image, raw = (pixels[:88:8, :88:8] for pixels in files[stem])
    raw = np.maximum(raw, 1)
    for folder, pixels in (("image", image), ("label", raw)):
        blocks = pixels.repeat(8, 0).repeat(8, 1)
        if folder == "label":
            blocks[80:, ::2], blocks[80:, 1::2] = 3, 13
        options = {"photometric": "separated"} if folder == "image" else {}
        tifffile.imwrite(tmp_path / "raw" / "megacities" / folder / f"{stem}.tif", blocks, metadata=None, **options)
    chosen = ("--choose", "resample=to_source_gsd", "--choose", "target_window=all")
    assert prepare(program, tmp_path, *chosen).exit_code == 0
    rows = {row.scene: row for row in manifest(tmp_path).tiles if row.side == "target"}
    assert (rows[stem].window.height, rows[stem].window.width) == (66, 66)
    got, label = tile(tmp_path, rows[stem].tile)
    # a pixel on the border of two blocks is their mean; those within are not
    for offset in (1, 4):
        np.testing.assert_array_equal(got[offset:66:6, offset:66:6], image)
    np.testing.assert_array_equal(label[:60, :66], raw[:10].repeat(6, 0).repeat(6, 1) - 1)
    assert set(np.unique(label[60:66, :66])) == {2, 12}, "classes are chosen, not mixed"
    other = rows[SCENES["gf1"][0]]
    assert other.window.col + other.window.width > 88, "only PlanetScope is resampled"


def test_verify_audit_stats_and_a_trial(program: Program, tmp_path: Path) -> None:
    write_fbp_official(tmp_path / "raw", px=64)
    for i, stem in enumerate(SCENES["gf2"][:3]):  # the first where the GF-1 scenes lie
        write_rpb(tmp_path / "raw" / f"{stem}.rpb", 114.0 + 2 * i, 30.4, height=172, width=164)
    assert prepare(program, tmp_path, tile=64).exit_code == 0
    data = ("--data", tmp_path / "data", "--workers", 1)
    assert program("data", "verify", TASK, *data).exit_code == 0
    audit = audited(Prepared(program, tmp_path / "data", TASK), 0)
    assert {name: (pair["outcome"], pair["ground"]["methods"]) for name, pair in audit.items()} == {
        "planetscope": ("cannot be verified", [["rpc"], ["table"]]),
        "gf1": ("cannot be verified", [["rpc"], ["name"]]),
        "sentinel2": ("verified disjoint", [["rpc"], ["mgrs"]]),
        "source_val": ("verified disjoint", [["rpc"], ["rpc"]]),
    }
    assert "boxes around named places do not meet" in audit["planetscope"]["why"]
    (meeting,) = audit["gf1"]["findings"]
    assert (meeting["check"], meeting["leak"]) == ("overlapping footprint", False)
    assert {example["first"].split("_r00")[0] for example in meeting["examples"]} == {f"gf2/{GF2}"}
    result = program("data", "stats", TASK, *data)
    assert result.exit_code == 0, result
    assert "sentinel2 less gf2" in result.text
    frozen = ("--suite", "smoke", *TINY[2:], "--method", "frozen")
    result = program(*frozen, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    (body,) = bodies(tmp_path / "results").values()
    assert len(body["result"]["classes"]) == 24
    write_fbp(tmp_path / "data")
    assert_refused(program("data", "verify", TASK, *data), "holds both fbp_cs and GID")


def test_official_sizes_are_required(program: Program, tmp_path: Path) -> None:
    write_fbp_official(tmp_path / "raw")
    where = ("--raw", tmp_path / "raw", "--out", tmp_path / "data", "--workers", 1)
    result = program("data", "prepare", TASK, *where)
    assert result.exit_code == 2
    assert "3 of 9 scenes" in result.text
    assert "248 x 256 pixels" in result.text
    assert "expected 7300 x 6908, or 7200 x 6800" in result.text


@pytest.mark.slow
def test_a_scene_of_the_official_size_gives_210_tiles(program: Program, tmp_path: Path) -> None:
    write_fbp_official(tmp_path / "raw")
    for path in (tmp_path / "raw").glob("*/GF2_*"):
        if GF2 not in path.name:
            path.unlink()
    image = np.zeros((6908, 7300, 4), np.uint8)
    image[54:6854, 60:7260] = 7
    write_image(next((tmp_path / "raw" / "Image__8bit_NirRGB").iterdir()), image, compression="zlib")
    label = np.zeros((6908, 7300), np.uint8)
    label[54:6854, 60:7260] = 3
    write_label(tmp_path / "raw" / "Annotation__index" / f"{GF2}_24label.png", label, mode="L")
    where = ("--raw", tmp_path / "raw", "--out", tmp_path / "data", "--workers", 1)
    assert "gf2: prepared 210 tiles of 1 scene;" in program("data", "prepare", TASK, *where).text
    rows = [row for row in manifest(tmp_path).tiles if row.scene == GF2]
    assert sum(row.histogram[2] for row in rows) == 7200 * 6800
    assert np.mean([row.valid_fraction for row in rows]) == pytest.approx(0.889, abs=5e-4)
    last = rows[-1]
    assert (last.tile, last.window.height, last.window.width) == (f"{GF2}_r014_c015", 144, 32)
    shutil.rmtree(tmp_path / "data")


def tagged_rgb(path: Path) -> None:
    write_image(path, tifffile.imread(path), photometric="rgb", extrasamples=["unassalpha"])


def deep(path: Path) -> None:
    write_image(path, tifffile.imread(path).astype(np.uint16))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (tagged_rgb, ("tagged RGB", "CMYK")),
        (deep, ("uint16", "8-bit")),
        (cut_off, ("truncated",)),
        (Path.unlink, ("has no image", "1 such")),
    ],
    ids=["rgb", "16 bits", "truncated", "missing"],
)
def test_traps(program: Program, tmp_path: Path, spoil: Callable[[Path], None], words: tuple[str, ...]) -> None:
    write_fbp_official(tmp_path / "raw")
    spoil(tmp_path / "raw" / "Image__8bit_NirRGB" / f"{GF2}.tif")
    result = prepare(program, tmp_path)
    assert result.exit_code == 2
    assert all(word in result.text for word in (GF2, *words)), result


def test_missing_sets_are_named(program: Program, tmp_path: Path) -> None:
    write_fbp_official(tmp_path / "raw")
    shutil.rmtree(tmp_path / "raw" / "megacities")
    assert_refused(prepare(program, tmp_path), "no images", "megacity")
    shutil.rmtree(tmp_path / "raw" / "Annotation__index")
    assert_refused(prepare(program, tmp_path), "no labels", "Annotation__index")
