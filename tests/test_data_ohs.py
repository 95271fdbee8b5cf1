"""WHU-OHS from the official files: 16-bit bands, merged classes, splits by scene, places."""

from __future__ import annotations

import shutil
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pyproj
import pytest

from benchmarks.catalogue import WHU_OHS_CR
from benchmarks.datasets.ohs import CLUSTERS, SWATH_KM, domain_of, sites
from benchmarks.legends import WHU_OHS_7
from benchmarks.prepared.labels import load_labels
from benchmarks.prepared.manifest import Manifest
from benchmarks.prepared.reader import open_prepared
from benchmarks.tasks import TileRef
from tests import data_files
from tests.audits import Prepared, audited
from tests.conftest import TINY, Program, Result, assert_refused, bodies
from tests.data_files import tiff
from tests.ohs_files import SCENES, interleaved, write_ohs

TASK = "whu_ohs_cr"
TRIAL = ("--suite", "smoke", "--seeds", 1, *TINY[2:], "--method", "frozen", "--backbone", "dinov3", "--task", TASK)
manifest = partial(data_files.manifest, TASK)
GROUPS = (  # the merged classes as ranges of raw values, in index order
    *(range(1, 3), range(3, 7), range(7, 10), range(10, 15), range(15, 18), range(18, 24), range(24, 25)),
)
MERGED = np.array([255] + [next(i for i, group in enumerate(GROUPS) if raw in group) for raw in range(1, 25)])


def prepare(program: Program, root: Path, *more: object, out: str = "data") -> Result:
    """Prepare the cut-outs of `root/raw`."""
    return data_files.prepare(TASK, program, root, "--choose", "scene_size=any", *more, out=out)


def scenes_by_domain(found: Manifest) -> dict[str, set[str]]:
    return {domain: {row.scene for row in found.tiles if row.domain == domain} for domain in ("seen", "unseen")}


def test_the_label_map_is_the_legend() -> None:
    labels = load_labels("ohs24_to_7")
    assert labels.classes == tuple(WHU_OHS_7)
    assert len(labels.values) == 25
    index = {name: i for i, name in enumerate(labels.classes)}
    assert [index[value.target] if value.target else 255 for value in labels.values] == MERGED.tolist()


def test_tiles_keep_the_stored_integers_and_merge_the_classes(program: Program, tmp_path: Path) -> None:
    files = write_ohs(tmp_path / "raw")
    result = prepare(program, tmp_path)
    assert result.exit_code == 0, result
    assert "32 images of 8 scenes" in result.text
    assert "seen, unseen: prepared 32 tiles of 8 scenes; official counts: 42 scenes, 7795 tiles" in result.text
    for implied in ("4378 tiles", "2189 tiles"):
        assert f"batches of {8 if implied.startswith('4') else 4}: {implied}" in result.text
    assert "patches of seen: S1 4, S6 4, O1 4, O7 4, O8 4" in result.text
    assert "patches of unseen: T1 4, T5 4, T6 4" in result.text
    found, reader = manifest(tmp_path), open_prepared(tmp_path / "data", TASK)
    assert (found.header.dtype, found.header.classes) == ("uint16", WHU_OHS_CR.files.classes)
    assert len(found.header.domains["seen"].bands) == 32
    assert {row.scene for row in found.tiles} == set(SCENES)
    assert len(found.tiles) == len(files)
    for row in found.tiles:
        image, raw = files[row.tile.removesuffix("_r001_c001")]
        sample = reader.read(TileRef(domain=row.domain, scene=row.scene, name=row.tile))
        assert sample.image.dtype == np.uint16
        np.testing.assert_array_equal(sample.image, image)
        np.testing.assert_array_equal(sample.label, MERGED[raw])
        assert row.scene == row.tile.partition("_")[0], "patches of all subsets belong to their scene"
        assert row.region == sites()[row.scene].place
        assert row.bands.split()[::31] == ["b1:466", "b32:940"]
    assert {row.tile.split("_")[2] for row in found.tiles if row.scene == "T1"} == {"tr", "val", "ts"}


def test_places_come_from_tags_or_from_the_table(program: Program, tmp_path: Path) -> None:
    write_ohs(tmp_path / "raw")
    prepare(program, tmp_path)
    degrees = pyproj.Transformer.from_crs(32650, 4326, always_xy=True)
    for row in manifest(tmp_path).tiles:
        centre = sites()[row.scene].centre
        if row.scene == "O1":
            assert row.georef == "geotiff"
            corners = [(0, 0), (640, 0), (640, 640), (0, 640)]
            expected = [degrees.transform(400_000 + x, 4_300_000 - y) for x, y in corners]
            np.testing.assert_allclose(row.footprint, expected, atol=2e-7)
        elif row.scene == "O7":
            assert (row.georef, row.footprint, centre) == ("none", None, None)
        else:
            assert row.georef == "table"
            (west, north), _, (east, south), _ = row.footprint
            geod, (lon, lat) = pyproj.Geod(ellps="WGS84"), centre
            for edge in ((west, lat), (east, lat), (lon, north), (lon, south)):
                # the city may lie 50 km from the scene's centre, and the scene reaches half a swath farther
                assert geod.inv(*centre, *edge)[2] / 1000 == pytest.approx(50 + SWATH_KM / 2, rel=5e-3)


def test_splits_by_pairs_and_by_part_of_china(program: Program, tmp_path: Path) -> None:
    write_ohs(tmp_path / "raw")
    pairs = prepare(program, tmp_path)
    assert scenes_by_domain(manifest(tmp_path)) == {
        "seen": {"S1", "S6", "O1", "O7", "O8"},
        "unseen": {"T1", "T5", "T6"},
    }
    assert "T6 Nanchang lies 35 km from S6 Anyi" in pairs.text
    assert "T1 Jilin lies" not in pairs.text
    assert any("T6 Nanchang" in note for note in manifest(tmp_path).header.notes)
    far = prepare(program, tmp_path, "--choose", "split=far_northwest", out="far")
    assert scenes_by_domain(manifest(tmp_path, "far")) == {
        "seen": {"S1", "S6", "T1", "T6", "O1"},
        "unseen": {"T5", "O8"},
    }, "O7 is left out, because its place is not known"
    assert " lies " not in far.text
    assert "because no file of them is there: S2" in far.text
    assert "official counts" not in far.text
    assert_refused(prepare(program, tmp_path, "--choose", "split=far_west", out="west"), "no patch of domain unseen")


def test_parts_of_china_lie_far_apart_and_pairs_do_not() -> None:
    known = {name: site for name, site in sites().items() if site.centre}
    assert list(sites()) == [
        f"{kind}{i}" for kind, count in (("S", 8), ("T", 8), ("O", 26)) for i in range(1, count + 1)
    ]
    assert {site.cluster for site in known.values()} == set(CLUSTERS)
    geod = pyproj.Geod(ellps="WGS84")
    for cluster in CLUSTERS:
        sides: dict[str, list[str]] = {"seen": [], "unseen": []}
        for name in known:
            sides[domain_of(name, f"far_{cluster}")].append(name)
        assert min(len(side) for side in sides.values()) >= 5
        for one in sides["unseen"]:
            for other in sides["seen"]:
                apart = geod.inv(*known[one].centre, *known[other].centre)[2] / 1000
                assert apart > 3 * SWATH_KM
                assert known[one].km_to(known[other]) == pytest.approx(apart, rel=5e-3)
    assert known["T6"].km_to(known["S6"]) < SWATH_KM
    assert {name for name in sites() if domain_of(name, "pairs") == "unseen"} == {f"T{i}" for i in range(1, 9)}


@pytest.mark.parametrize(
    ("choice", "raws", "before", "after"),
    [("beach=unused", (13, 14), 3, 5), ("marshland=waterbody", (21,), 5, 3)],
)
def test_doubtful_classes_go_where_they_are_sent(
    program: Program, tmp_path: Path, choice: str, raws: tuple[int, ...], before: int, after: int
) -> None:
    files = write_ohs(tmp_path / "raw", scenes=("S1", "T1"))
    assert prepare(program, tmp_path, "--choose", choice).exit_code == 0
    table = MERGED.copy()
    assert (table[list(raws)] == before).all()
    table[list(raws)] = after
    reader = open_prepared(tmp_path / "data", TASK)
    for row in manifest(tmp_path).tiles:
        label = reader.read(TileRef(domain=row.domain, scene=row.scene, name=row.tile)).label
        np.testing.assert_array_equal(label, table[files[row.tile.removesuffix("_r001_c001")][1]])
    assert manifest(tmp_path).header.classes == tuple(WHU_OHS_7)


def test_signed_integers_and_a_mirrors_folders_give_the_same_tiles(program: Program, tmp_path: Path) -> None:
    write_ohs(tmp_path / "raw", scenes=("S1", "T1"))
    write_ohs(tmp_path / "other" / "raw", scenes=("S1", "T1"), dtype=np.int16)
    (tmp_path / "other" / "raw" / "tr").rename(tmp_path / "other" / "raw" / "train")
    with zipfile.ZipFile(tmp_path / "other" / "raw" / "ts.zip") as archive:
        archive.extractall(tmp_path / "other" / "raw" / "test")
    (tmp_path / "other" / "raw" / "ts.zip").unlink()
    assert prepare(program, tmp_path).exit_code == 0
    assert prepare(program, tmp_path / "other").exit_code == 0
    assert manifest(tmp_path).tiles == manifest(tmp_path / "other").tiles


def spoil_negative(raw: Path) -> None:
    image = np.full((64, 64, 32), 5, np.int16)
    image[3, 4, 5] = -7
    (raw / "tr" / "image" / "S1_0001.tif").write_bytes(interleaved(image))


def spoil_reflectance(raw: Path) -> None:
    (raw / "tr" / "image" / "S1_0001.tif").write_bytes(interleaved(np.full((64, 64, 32), 0.5, np.float32)))


def spoil_bands(raw: Path) -> None:
    (raw / "tr" / "image" / "S1_0001.tif").write_bytes(interleaved(np.ones((64, 64, 31), np.uint16)))


def spoil_planes(raw: Path) -> None:
    """Bands as height, as a careless conversion leaves them."""
    (raw / "tr" / "image" / "S1_0001.tif").write_bytes(tiff(np.ones((32, 64, 64), np.uint16)))


def spoil_colours(raw: Path) -> None:
    (raw / "tr" / "label" / "S1_0001.tif").write_bytes(tiff(np.ones((64, 64, 3), np.uint8)))


def spoil_value(raw: Path) -> None:
    (raw / "tr" / "label" / "S1_0001.tif").write_bytes(tiff(np.full((64, 64), 25, np.uint8)))


def spoil_size(raw: Path) -> None:
    (raw / "tr" / "label" / "S1_0001.tif").write_bytes(tiff(np.ones((64, 60), np.uint8)))


def spoil_pair(raw: Path) -> None:
    (raw / "tr" / "label" / "S1_0001.tif").unlink()


def spoil_name(raw: Path) -> None:
    for folder in ("image", "label"):
        shutil.copy(raw / "tr" / folder / "S1_0001.tif", raw / "tr" / folder / "O27_0001.tif")


def spoil_subset(raw: Path) -> None:
    (raw / "val.zip").unlink()


SPOILERS = {
    spoil_negative: ("S1_0001.tif", "-7", "none below 0"),
    spoil_reflectance: ("S1_0001.tif", "32 band(s) of type float32", "uint16 or int16"),
    spoil_bands: ("S1_0001.tif", "31 band(s)", "expected 32"),
    spoil_planes: ("S1_0001.tif", "1 band(s)", "expected 32"),
    spoil_colours: ("S1_0001.tif", "colours", "0 to 24"),
    spoil_value: ("S1_0001.tif", "value 25", "0 to 24"),
    spoil_size: ("S1_0001.tif", "60 x 64", "64 x 64"),
    spoil_pair: ("S1_0001.tif", "no label"),
    spoil_name: ("O27_0001.tif", "none of the 42 scenes"),
    spoil_subset: ("no val/image", "all three subsets"),
}


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_defects_are_named(program: Program, tmp_path: Path, spoil: object) -> None:
    write_ohs(tmp_path / "raw", scenes=("S1", "T1"))
    spoil(tmp_path / "raw")
    result = prepare(program, tmp_path)
    assert result.exit_code == 2, result
    assert "Traceback" not in result.text
    for word in SPOILERS[spoil]:
        assert word in result.text
    assert not (tmp_path / "data" / TASK / "manifest.jsonl").exists()


def test_other_sizes_need_a_choice(program: Program, tmp_path: Path) -> None:
    write_ohs(tmp_path / "raw", scenes=("S1", "T1"))
    result = program("data", "prepare", TASK, "--raw", tmp_path / "raw", "--out", tmp_path / "data", "--tile", 64)
    assert result.exit_code == 2
    assert "64 x 64 pixels, expected 512 x 512" in result.text


def test_verify_audit_stats_and_a_trial(program: Program, tmp_path: Path) -> None:
    files = write_ohs(tmp_path / "raw")
    prepare(program, tmp_path)
    data = ("--data", tmp_path / "data", "--workers", 1)
    assert program("data", "verify", TASK, *data).exit_code == 0
    audit = audited(Prepared(program, tmp_path / "data", TASK), 0)
    (meeting,) = audit["unseen"]["findings"]
    assert (meeting["check"], meeting["leak"], meeting["pairs"]) == ("overlapping footprint", False, 3 * 16)
    scenes = {tuple(example[side].split("/")[1][:2] for side in ("first", "second")) for example in meeting["examples"]}
    assert scenes == {("S1", "T1"), ("S6", "T6"), ("O8", "T5")}, "the pairs, and two in the northwest"
    assert audit["unseen"]["outcome"] == "cannot be verified"
    assert audit["unseen"]["ground"]["methods"] == [["geotiff", "table"], ["table"]]
    assert audit["source_val"]["outcome"] == "disjoint by construction"
    assert program("data", "stats", TASK, *data).exit_code == 0
    result = program(*TRIAL, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    (body,) = bodies(tmp_path / "results").values()
    source = np.concatenate([image.reshape(-1, 32) for name, (image, _) in files.items() if name[0] != "T"])
    np.testing.assert_allclose(body["result"]["statistics"]["mean"], source.mean(0), rtol=1e-12)
    np.testing.assert_allclose(body["result"]["statistics"]["std"], source.std(0), rtol=1e-9)


def test_parts_of_china_that_are_far_apart_are_not_verified_by_their_cities(program: Program, tmp_path: Path) -> None:
    write_ohs(tmp_path / "raw", scenes=("S1", "T1", "T5", "O8"))
    assert prepare(program, tmp_path, "--choose", "split=far_northwest").exit_code == 0
    audit = audited(Prepared(program, tmp_path / "data", TASK), 0)
    assert (audit["unseen"]["outcome"], audit["unseen"]["findings"]) == ("cannot be verified", [])
    assert "boxes around named places do not meet" in audit["unseen"]["why"]
    assert [finding["check"] for finding in audit["source_val"]["findings"]] == ["overlapping footprint"]
    assert audit["source_val"]["outcome"] == "cannot be verified"


def test_the_released_constants_divide_by_ten_thousand(program: Program, tmp_path: Path) -> None:
    write_ohs(tmp_path / "raw", scenes=("S1", "S6", "T1"))
    prepare(program, tmp_path)
    given = ("--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert program(*TRIAL, *given, "--set", "protocol.normalisation=released").exit_code == 0
    (body,) = bodies(tmp_path / "results").values()
    assert body["result"]["statistics"] == {"mean": [0.0] * 32, "std": [10_000.0] * 32}
    assert "normalisation=released" in body["result"]["labels"]["recipe"]
