"""OpenEarthMap cross-continent: sizes, regions, coordinate systems or none. Its lists: `test_data_oem_lists.py`."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS

from benchmarks.datasets.oem import RECIPE, regions
from benchmarks.legends import OEM_8
from benchmarks.prepared.labels import load_labels
from benchmarks.prepared.reader import open_prepared
from benchmarks.tasks import TileRef
from tests import data_files
from tests.aerial_files import OEM_PLACES, OEM_SIZES, geotiff, region_of, write_oem
from tests.audits import Prepared, audited
from tests.conftest import TINY, Program, bodies

TASK = "oem_cc"
TRIAL = ("--suite", "all", "--seeds", 1, *TINY[2:], "--method", "frozen", "--backbone", "dinov3", "--task", TASK)
XBD = [region.name for region in regions().values() if region.xbd]
prepare = partial(data_files.prepare, TASK)
manifest = partial(data_files.manifest, TASK)


def home(root: Path) -> Path:
    return root / "raw" / "OpenEarthMap_wo_xBD"


def tiles_of(name: str, root: Path, out: str = "data") -> list[tuple[int, int, int, int]]:
    """The windows of an image's tiles."""
    rows = [row.window for row in manifest(root, out).tiles if row.tile.startswith(f"{name}_r")]
    return [(window.row, window.col, window.height, window.width) for window in rows]


def test_the_label_map_is_the_legend() -> None:
    labels = load_labels("oem8")
    assert {value.target: value.colour for value in labels.values if value.raw} == OEM_8
    assert (labels.classes, labels.values[0].target) == (tuple(OEM_8), None)


def test_the_table_of_regions_has_the_official_numbers() -> None:
    assert len(regions()) == 97
    assert len(XBD) == 22
    default = RECIPE.choose([])
    labelled: dict[str, Counter[str]] = {xbd: Counter() for xbd in ("without", "with")}
    lists: Counter[str] = Counter()
    for region in regions().values():
        lists.update(region.labelled)
        for xbd, counts in labelled.items():
            counts[region.continent] += region.images({**default, "xbd": xbd})
    assert lists == {"train": 3000, "val": 500}
    continents = ("Europe", "Asia", "Africa", "North America", "South America", "Oceania")
    assert [labelled["without"][name] for name in continents] == [806, 474, 596, 140, 524, 147]
    assert [labelled["with"][name] for name in continents] == [855, 621, 596, 708, 524, 196]


def test_tiles_sides_and_places(program: Program, tmp_path: Path) -> None:
    files = write_oem(tmp_path / "raw")
    result = prepare(program, tmp_path)
    assert result.exit_code == 0, result
    assert "78 images of 75 scenes, 0 already prepared, 78 to do" in result.text
    assert "others: prepared 60 tiles of 50 scenes; official table of regions: 50 scenes: agrees" in result.text
    assert "europe: prepared 26 tiles of 25 scenes; official table of regions: 25 scenes: agrees" in result.text
    implied = "released schedule: 8193 to 8200 tiles of 512 px"
    assert f"{implied}: not compared, with tiles of 64 px" in result.text
    reader, rows, seen = open_prepared(tmp_path / "data", TASK), manifest(tmp_path).tiles, set()
    for row in rows:
        name = row.tile.rpartition("_r")[0]
        seen.add(name)
        image, raw = (np.pad(a, ((0, 64), (0, 64), *[(0, 0)] * (a.ndim - 2))) for a in files[name])
        box = np.s_[row.window.row : row.window.row + 64, row.window.col : row.window.col + 64]
        sample = reader.read(TileRef(domain=row.domain, scene=row.scene, name=row.tile))
        np.testing.assert_array_equal(sample.image, image[box])
        np.testing.assert_array_equal(sample.label, np.where(raw[box] == 0, 255, raw[box].astype(int) - 1))
        region = regions()[row.scene]
        assert row.scene == region_of(name)
        assert row.region == f"{row.scene}, {region.country}, {region.continent}"
        assert row.side == ("target" if region.continent == "Europe" else "source")
        assert (row.georef, row.footprint is None) == (
            ("geotiff", False) if row.scene in OEM_PLACES else ("none", True)
        )
    assert seen == files.keys()
    (vienna,) = [row.footprint for row in rows if row.tile.startswith("vienna_2")]
    step = 64 * 5e-6
    np.testing.assert_allclose(
        vienna, [(16.3, 48.2), (16.3 + step, 48.2), (16.3 + step, 48.2 - step), (16.3, 48.2 - step)], atol=1e-7
    )
    for name, (longitude, latitude) in {"accra": (-0.2, 5.6), "dolnoslaskie": (17.0, 51.1)}.items():
        for row in rows:
            if row.scene == name:
                assert row.footprint is not None
                np.testing.assert_allclose(row.footprint[0], (longitude, latitude), atol=0.1)


@pytest.mark.parametrize(
    ("edge", "accra", "tokyo", "vienna"),
    [
        ("shift", [(0, 0), (0, 6), (36, 0), (36, 6)], [(0, 0), (0, 64), (0, 66), (1, 0), (1, 64), (1, 66)], 1),
        ("pad", [(0, 0), (0, 64), (64, 0), (64, 64)], [(0, 0), (0, 64), (0, 128), (64, 0), (64, 64), (64, 128)], 1),
        ("drop", [(0, 0)], [(0, 0), (0, 64)], 0),
    ],
)
def test_edges_of_images_that_are_not_square(
    program: Program,
    tmp_path: Path,
    edge: str,
    accra: list[tuple[int, int]],
    tokyo: list[tuple[int, int]],
    vienna: int,
) -> None:
    files = write_oem(tmp_path / "raw")
    assert {name: files[name][1].shape for name in OEM_SIZES} == OEM_SIZES
    result = prepare(program, tmp_path, "--choose", f"edge={edge}")
    assert result.exit_code == 0, result
    assert [window[:2] for window in tiles_of("accra_1", tmp_path)] == accra
    assert [window[:2] for window in tiles_of("tokyo_1", tmp_path)] == tokyo
    assert tiles_of("vienna_1", tmp_path) == [(0, 0, 40, 50)] * vienna
    assert edge != "shift" or RECIPE.choose([])["edge"] == "shift"


def test_places_come_from_the_label_where_the_image_has_none(program: Program, tmp_path: Path) -> None:
    files = write_oem(tmp_path / "raw")
    prepare(program, tmp_path)
    image = home(tmp_path) / "accra" / "images" / "accra_1.tif"
    image.write_bytes(geotiff(files["accra_1"][0], None))
    prepare(program, tmp_path, out="again")
    assert manifest(tmp_path, "again").tiles == manifest(tmp_path).tiles


def test_degrees_beyond_the_earth_are_no_place(program: Program, tmp_path: Path) -> None:
    """Some writers name a system and leave pixel numbers for coordinates."""
    files = write_oem(tmp_path / "raw")
    data = geotiff(files["lima_1"][0], CRS.from_epsg(4326), 0, 0, 4, photometric="RGB")
    (home(tmp_path) / "lima" / "images" / "lima_1.tif").write_bytes(data)
    assert prepare(program, tmp_path).exit_code == 0
    assert [(row.footprint, row.georef) for row in manifest(tmp_path).tiles if row.scene == "lima"] == [(None, "none")]


def other_size(root: Path) -> None:
    (home(root) / "aachen" / "labels" / "aachen_1.tif").write_bytes(geotiff(np.ones((64, 60), np.uint8), None))


def lost_label(root: Path) -> None:
    (home(root) / "aachen" / "labels" / "aachen_1.tif").unlink()


def lost_image(root: Path) -> None:
    (home(root) / "accra" / "images" / "accra_1.tif").unlink()


def lost_region(root: Path) -> None:
    shutil.rmtree(home(root) / "accra")


def lost_list(root: Path) -> None:
    (home(root) / "val.txt").unlink()


def other_region(root: Path) -> None:
    (home(root) / "val.txt").write_text("atlantis_1.tif\n")


def ninth_class(root: Path) -> None:
    (home(root) / "aachen" / "labels" / "aachen_1.tif").write_bytes(geotiff(np.full((64, 64), 9, np.uint8), None))


def deep(root: Path) -> None:
    (home(root) / "aachen" / "images" / "aachen_1.tif").write_bytes(geotiff(np.ones((64, 64, 3), np.uint16), None))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_size, ("aachen_1.tif has 60 x 64 pixels", "64 x 64")),
        (lost_label, ("aachen_1.tif has no label",)),
        (lost_image, ("accra_1.tif has no image",)),
        (lost_region, ("no image of these regions (1): accra", "unpack")),
        (lost_list, ("no val.txt",)),
        (other_region, ("val.txt names 'atlantis_1.tif'", "oem.csv")),
        (ninth_class, ("aachen_1.tif holds the value 9", "0 to 8")),
        (deep, ("aachen_1.tif has 3 band(s) of type uint16",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_right_is_refused(
    program: Program, tmp_path: Path, spoil: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    write_oem(tmp_path / "raw")
    spoil(tmp_path)
    result = prepare(program, tmp_path)
    assert result.exit_code == 2, result
    assert all(word in result.text for word in words), result.text
    assert "Traceback" not in result.err


def test_verify_audit_stats_and_a_trial(program: Program, tmp_path: Path) -> None:
    files = write_oem(tmp_path / "raw")
    prepare(program, tmp_path, "--choose", "edge=pad")
    data = ("--data", tmp_path / "data", "--workers", 1)
    result = program("data", "verify", TASK, *data)
    assert result.exit_code == 0, result
    audit = audited(Prepared(program, tmp_path / "data", TASK), 0)
    assert {name: (pair["outcome"], pair["why"]) for name, pair in audit.items()} == {
        "europe": ("disjoint by construction", "no region in common"),
        "source_val": ("disjoint by construction", "split by scene"),
    }
    assert audit["europe"]["ground"]["placed"] == [5, 3], "accra's five tiles, three of two regions of Europe"
    assert "tiles without coordinates: 55 of 60 of others, 23 of 26 of europe" in audit["europe"]["unchecked"][0]
    assert program("data", "stats", TASK, *data).exit_code == 0
    result = program(*TRIAL, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    (body,) = bodies(tmp_path / "results").values()
    source = np.concatenate(
        [image.reshape(-1, 3) for name, (image, _) in files.items() if regions()[region_of(name)].continent != "Europe"]
    )
    np.testing.assert_allclose(body["result"]["statistics"]["mean"], source.mean(0), rtol=1e-12)
    np.testing.assert_allclose(body["result"]["statistics"]["std"], source.std(0), rtol=1e-12)
    assert body["result"]["classes"] == list(OEM_8)
