"""OpenEarthMap's lists: exchanged, with images that are missing or xBD's, packed or not; and choices among them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from benchmarks.datasets.oem import RECIPE, regions
from benchmarks.prepared.raw import RawTree
from tests import data_files
from tests.aerial_files import write_oem
from tests.conftest import Program, assert_refused

TASK = "oem_cc"
prepare = partial(data_files.prepare, TASK)
manifest = partial(data_files.manifest, TASK)
XBD = [region.name for region in regions().values() if region.xbd]


def home(root: Path) -> Path:
    return root / "raw" / "OpenEarthMap_wo_xBD"


def test_choices(program: Program, tmp_path: Path) -> None:
    write_oem(tmp_path / "raw")
    result = prepare(program, tmp_path, "--choose", "georgia=europe", "--choose", "labelled=train")
    assert result.exit_code == 0, result
    rows = manifest(tmp_path).tiles
    assert {row.region for row in rows if row.scene == "svaneti"} == {"svaneti, Georgia, Europe"}
    assert {row.side for row in rows if row.scene == "svaneti"} == {"target"}
    assert not [row.tile for row in rows if row.tile.rpartition("_r")[0].endswith("_2")]
    assert "europe: prepared 26 tiles of 26 scenes; official table of regions: 26 scenes: agrees" in result.text


def test_exchanged_lists_are_told_by_their_lengths(program: Program, tmp_path: Path) -> None:
    write_oem(tmp_path / "raw")
    prepare(program, tmp_path)
    write_oem(tmp_path / "mirror" / "raw", swapped=True)
    result = prepare(program, tmp_path / "mirror")
    assert result.exit_code == 0, result
    assert manifest(tmp_path / "mirror").tiles == manifest(tmp_path).tiles
    assert manifest(tmp_path / "mirror").header.notes[0].startswith("val.txt is longer than test.txt")
    assert not [note for note in manifest(tmp_path).header.notes if note.startswith("val.txt")]


def test_what_is_left_out_and_other_numbers_are_told_and_kept(program: Program, tmp_path: Path) -> None:
    write_oem(tmp_path / "raw")
    result = prepare(program, tmp_path)
    left, other = manifest(tmp_path).header.notes
    assert left.startswith("xbd=without leaves out 813 images of 22 regions: adelaide, el_rodeo, ")
    assert other.startswith("regions with other numbers of images than the official table (75): aachen 1 of 49, ")
    assert left in result.text
    assert other in result.text


def test_xbd(program: Program, tmp_path: Path) -> None:
    files = write_oem(tmp_path / "raw", compiled=XBD)
    choose = ("--choose", "xbd=with")
    assert prepare(program, tmp_path, out="without").exit_code == 0
    assert {row.scene for row in manifest(tmp_path, "without").tiles}.isdisjoint(XBD)
    result = prepare(program, tmp_path, *choose)
    assert result.exit_code == 0, result
    assert {row.scene for row in manifest(tmp_path).tiles} == regions().keys()
    assert [row.domain for row in manifest(tmp_path).tiles if row.scene == "pedrogao_grande"] == ["europe"]
    joplin = home(tmp_path) / "joplin"
    shutil.copy(joplin / "labels" / "joplin_1.tif", joplin / "labels" / "joplin_7.tif")
    with (home(tmp_path) / "train.txt").open("a") as file:
        file.write("joplin_7.tif\n")
    result = prepare(program, tmp_path, *choose, out="partly")
    assert result.exit_code == 0, result
    note = "listed images of xBD that are missing (1): joplin 1 (joplin_7)"
    assert note in manifest(tmp_path, "partly").header.notes
    assert note in result.text
    assert {row.tile.rpartition("_r")[0] for row in manifest(tmp_path, "partly").tiles} == files.keys()
    (joplin / "images" / "joplin_1.tif").unlink()
    refused = prepare(program, tmp_path, *choose, out="less")
    assert_refused(refused, "no image of these regions (1): joplin", "compile them from xBD", "xbd=without")


def test_packed_and_beside_other_lists(program: Program, tmp_path: Path) -> None:
    write_oem(tmp_path / "raw")
    prepare(program, tmp_path)
    other = tmp_path / "packed" / "raw" / "other" / "train.txt"
    other.parent.mkdir(parents=True)
    other.write_text("of another data set\n")
    shutil.make_archive(str(tmp_path / "packed" / "raw" / "OpenEarthMap"), "zip", tmp_path / "raw")
    assert prepare(program, tmp_path / "packed").exit_code == 0
    assert manifest(tmp_path / "packed").tiles == manifest(tmp_path).tiles


def test_a_raw_folder_that_is_the_archives_own(program: Program, tmp_path: Path) -> None:
    write_oem(tmp_path / "raw")
    prepare(program, tmp_path)
    home(tmp_path).rename(tmp_path / "own")
    assert prepare(program, tmp_path, "--raw", tmp_path / "own", out="again").exit_code == 0
    assert manifest(tmp_path, "again").tiles == manifest(tmp_path).tiles
    assert manifest(tmp_path, "again").header.notes == manifest(tmp_path).header.notes


def test_a_listed_image_of_which_nothing_is_there_is_told(program: Program, tmp_path: Path) -> None:
    write_oem(tmp_path / "raw")
    for folder in ("images", "labels"):
        (home(tmp_path) / "accra" / folder / "accra_1.tif").unlink()
    assert prepare(program, tmp_path).exit_code == 0
    assert "listed images that are missing (1): accra 1 (accra_1)" in manifest(tmp_path).header.notes


def test_test_labels_are_never_used(tmp_path: Path) -> None:
    write_oem(tmp_path)
    image = tmp_path / "OpenEarthMap_wo_xBD" / "accra" / "images" / "accra_3.tif"
    assert image.exists()
    shutil.copy(image.parents[1] / "labels" / "accra_1.tif", image.parents[1] / "labels" / "accra_3.tif")
    scenes = RECIPE.find(RawTree(tmp_path), RECIPE.choose([]))
    assert {scene.name for scene in scenes if scene.part_of == "accra"} == {"accra_1", "accra_2"}
