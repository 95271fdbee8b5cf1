"""The whole command on files: a small Five-Billion-Pixels folder with real TIFF tags, and every defect it may have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks.datasets.fbp import CLASSES
from tests.conftest import SMOKE, TINY, Program, assert_refused, bodies, contents, outcomes, snapshot
from tests.fbp_files import SCENES, Written, write_fbp, write_image, write_label

LABELLED = range(1, 25)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data root with a small, sound data set."""
    write_fbp(tmp_path / "data")
    return tmp_path / "data"


def test_the_smoke_suite_runs_on_files(program: Program, data: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    result = program(*SMOKE, "--data-root", data, "--results", results)
    assert result.exit_code == 0, result
    assert "4 trials of 4 steps each, 0 cached, 4 to run" in result.text
    assert "test (files)" in result.text
    assert "synthetic" not in result.text
    tables = contents(results / "test" / "tables")
    assert {Path(name).suffix for name in tables} == {".md", ".tex", ".csv"}
    for name, text in tables.items():
        assert b"synthetic" not in text
        assert b"test (files)" in text or name.endswith(".csv")
    records = bodies(results)
    assert len(records) == 4
    for body in records.values():
        assert body["status"] == "done"
        assert body["result"]["inputs"]["data"] == "files"
        assert body["result"]["classes"] == list(CLASSES)
        assert len(body["result"]["selections"]["last"]["scores"]["target"]["iou"]) == 24
        assert set(body["result"]["tiles"]["domain"]) == {"source_val", "planetscope", "gf1", "sentinel2"}
    again = program(*SMOKE, "--data-root", data, "--results", results)
    assert "4 cached, 0 to run" in again.text


def test_statistics_and_label_counts_are_those_of_the_files(program: Program, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    files = write_fbp(tmp_path / "data", seed=5)
    results = tmp_path / "results"
    frozen = (*TINY, "--method", "frozen", "--data-root", tmp_path / "data", "--results", results)
    assert program(*frozen).exit_code == 0
    ((key, body),) = bodies(results).items()
    tiles = body["result"]["tiles"]
    held = {s for d, s in zip(tiles["domain"], tiles["scene"], strict=True) if d == "source_val"}
    assert len(held) == 1
    trained = [name for name in files if name[:3] == "GF2" and not any(name.startswith(scene) for scene in held)]
    assert len(trained) == 4
    pixels = []
    for name in trained:  # read back by another library than the harness uses
        image, label = np.asarray(Image.open(files[name].image_path)), np.asarray(Image.open(files[name].label_path))
        pixels.append(image[label > 0])
    valid = np.concatenate(pixels).astype(np.float64)
    np.testing.assert_allclose(body["result"]["statistics"]["mean"], valid.mean(0), rtol=1e-12)
    np.testing.assert_allclose(body["result"]["statistics"]["std"], valid.std(0), rtol=1e-9)

    areas = load_file(results / "test" / "records" / f"{key}.safetensors")["areas/2"]
    assert areas.shape == (len(tiles["name"]), 24, 3)
    for name, counted in zip(tiles["name"], areas[..., 2], strict=True):
        label = np.asarray(Image.open(files[name].label_path))
        np.testing.assert_array_equal(counted, [(label == value).sum() for value in LABELLED])


def test_moved_files_are_cached_and_give_the_same_record(program: Program, data: Path, tmp_path: Path) -> None:
    frozen = (*TINY, "--method", "frozen")
    assert program(*frozen, "--data-root", data, "--results", tmp_path / "a").exit_code == 0
    shutil.move(data, tmp_path / "moved")
    assert "1 cached" in program(*frozen, "--data-root", tmp_path / "moved", "--results", tmp_path / "a").text
    assert program(*frozen, "--data-root", tmp_path / "moved", "--results", tmp_path / "b").exit_code == 0
    assert outcomes(tmp_path / "a") == outcomes(tmp_path / "b")


def test_files_and_scenes_never_share_a_table(program: Program, data: Path, tmp_path: Path) -> None:
    frozen = (*TINY, "--method", "frozen", "--results", tmp_path / "results")
    assert program(*frozen).exit_code == 0
    assert program(*frozen, "--data-root", data).exit_code == 0
    headings = [path.read_text().splitlines()[0] for path in (tmp_path / "results" / "test" / "tables").glob("*.md")]
    assert sorted("files" in heading for heading in headings) == [False, True]
    assert sorted("synthetic" in heading for heading in headings) == [False, True]


@pytest.mark.slow
def test_tiles_of_the_published_size(program: Program, tmp_path: Path) -> None:
    write_fbp(tmp_path / "data", scenes=2, tiles_per_scene=1, px=512, compression="lzw")
    few = ("--method", "spectralmoe", "--set", "protocol.max_tiles=1", "--set", "protocol.batch_size=1")
    result = program(*TINY, *few, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    (body,) = bodies(tmp_path / "results").values()
    assert len(body["result"]["tiles"]["name"]) == 4


def without_label(tile: Written) -> Path:
    """An image whose label is gone."""
    tile.label_path.unlink()
    return tile.image_path.parent


def without_image(tile: Written) -> Path:
    """A label whose image is gone."""
    tile.image_path.unlink()
    return tile.label_path.parent


def three_bands(tile: Written) -> Path:
    """One band is missing."""
    write_image(tile.image_path, tile.image[..., :3], photometric="rgb")
    return tile.image_path


def sixteen_bits(tile: Written) -> Path:
    """The 16-bit edition of the data set."""
    write_image(tile.image_path, tile.image.astype(np.uint16) * 16)
    return tile.image_path


def tagged_rgb(tile: Written) -> Path:
    """Saved again by a tool that takes four bands for RGB with alpha."""
    write_image(tile.image_path, tile.image, photometric="rgb", extrasamples=["unassalpha"])
    return tile.image_path


def unknown_label(tile: Written) -> Path:
    """A value beyond the 24 classes."""
    raw = tile.raw.copy()
    raw[0, 0] = 25
    write_label(tile.label_path, raw, mode="L")
    return tile.label_path


def colour_label(tile: Written) -> Path:
    """The colour-coded edition of the labels."""
    Image.fromarray(np.stack([tile.raw] * 3, axis=-1)).save(tile.label_path)
    return tile.label_path


def truncated(tile: Written) -> Path:
    """An interrupted copy."""
    tile.image_path.write_bytes(tile.image_path.read_bytes()[:-1000])
    return tile.image_path


def not_a_tiff(tile: Written) -> Path:
    """A page of the download portal instead of the file."""
    tile.image_path.write_text("<html>please log in</html>")
    return tile.image_path


def cut_off_label(tile: Written) -> Path:
    """An interrupted copy of a label."""
    tile.label_path.write_bytes(tile.label_path.read_bytes()[:-40])
    return tile.label_path


def other_size(tile: Written) -> Path:
    """A label cut by another box than its image."""
    write_label(tile.label_path, tile.raw[:-1], mode="L")
    return tile.label_path


DEFECTS: dict[Callable[[Written], Path], tuple[str, ...]] = {
    without_label: ("without a label", "gf2"),
    without_image: ("without an image", "gf2"),
    three_bands: ("3 band(s)", "expected 4"),
    sixteen_bits: ("uint16", "expected uint8"),
    tagged_rgb: ("tagged RGB", "CMYK"),
    unknown_label: ("the value 25", "24"),
    colour_label: ("mode RGB", "index"),
    truncated: ("truncated", "copy or unpack"),
    not_a_tiff: ("not a TIFF", "copy or unpack"),
    cut_off_label: ("damaged", "copy or unpack"),
    other_size: ("64 x 63", "64 x 64"),
}


@pytest.mark.parametrize("where", ["source", "target"])
@pytest.mark.parametrize("spoil", DEFECTS, ids=lambda spoil: spoil.__name__)
def test_a_defect_is_named_before_anything_trains(
    program: Program, tmp_path: Path, spoil: Callable[[Written], Path], where: str
) -> None:
    files = write_fbp(tmp_path / "data", scenes=2)
    name = next(name for name in files if name.startswith(SCENES["gf2"][1] if where == "source" else "crop_GF1"))
    path = spoil(files[name])
    results = tmp_path / "results"
    result = program(*SMOKE, "--data-root", tmp_path / "data", "--results", results)
    words = (name, DEFECTS[spoil][0]) if "gf2" in DEFECTS[spoil] else DEFECTS[spoil]
    assert_refused(result, str(path), *words)
    assert " done " not in result.out
    assert not list(results.rglob("*.json"))
    assert not list(results.rglob("tables"))


@pytest.mark.parametrize("missing", ["", "GID", "GID/target_dir", "GID/source_dir/image"])
def test_a_missing_folder_is_named(program: Program, data: Path, tmp_path: Path, missing: str) -> None:
    shutil.rmtree(data / missing)
    for command in (SMOKE, ("plan", *SMOKE)):
        result = program(*command, "--data-root", data, "--results", tmp_path / "results")
        assert_refused(result, str(data / missing).rstrip("/"))
    assert not (tmp_path / "results").exists()


def test_a_single_source_scene_cannot_be_split(program: Program, tmp_path: Path) -> None:
    write_fbp(tmp_path / "data", scenes=1)
    result = program(*SMOKE, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert_refused(result, "gf2", "1 scene", "at least two")
    assert not list((tmp_path / "results").rglob("*.json"))


def spoil_silently(tile: Written) -> None:
    """A defect that changes neither name nor size of the file: the tag says RGB."""
    before = tile.image_path.stat().st_size
    with tifffile.TiffFile(tile.image_path, mode="r+b") as file:
        file.pages.first.tags["PhotometricInterpretation"].overwrite(2)
    assert tile.image_path.stat().st_size == before


def test_a_folder_is_checked_once_until_its_files_change(program: Program, tmp_path: Path) -> None:
    files = write_fbp(tmp_path / "data")
    tile = next(iter(files.values()))
    results = tmp_path / "results"
    run = (*TINY, "--data-root", tmp_path / "data", "--results", results, "--method")
    assert program(*run, "frozen").exit_code == 0
    checked = results / "test" / "checked.json"
    assert len(json.loads(checked.read_text())) == 1
    before = snapshot(results)["test/checked.json"]

    spoil_silently(tile)  # not seen again by the check, but by the trial that reads the tile
    result = program(*run, "lora")
    assert [body["error"]["type"] for body in bodies(results).values() if body["error"]] == ["ValueError"]
    assert str(tile.image_path) in result.text
    assert snapshot(results)["test/checked.json"] == before

    tile.image_path.write_bytes(tile.image_path.read_bytes() + b"\0")  # another size: checked again
    assert_refused(program(*run, "lora"), str(tile.image_path), "tagged RGB")
    assert snapshot(results)["test/checked.json"] == before
    write_image(tile.image_path, tile.image)
    assert program(*run, "lora").exit_code == 0
    assert snapshot(results)["test/checked.json"] == before, "the first state, known to be good"


def test_a_damaged_list_of_checked_folders_is_no_obstacle(program: Program, data: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    run = (*TINY, "--data-root", data, "--results", results, "--method")
    assert program(*run, "frozen").exit_code == 0
    checked = results / "test" / "checked.json"
    whole = checked.read_bytes()
    checked.write_bytes(whole[:5])  # killed while writing
    result = program(*run, "lora")
    assert result.exit_code == 0, result
    assert checked.read_bytes() == whole
