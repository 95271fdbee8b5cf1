"""`predict`: a finished trial on an image of any size, and where its labels end up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import tifffile
import torch
from PIL import Image as Picture
from rasterio.transform import from_origin
from rasterio.windows import Window

from benchmarks.catalogue import TASKS
from benchmarks.tasks import IGNORE
from harness.imagery import open_image
from harness.predict import spans
from harness.records import RecordStore
from harness.restore import restore_model, restore_trial
from harness.scales import SCALES
from tests.conftest import TINY, Program, bodies

PLACE = from_origin(600_000, 3_400_000, 4, 4)


def key_of(results: Path, method: str) -> str:
    """The key of a method's smoke record."""
    return next(key for key, body in bodies(results).items() if body["result"]["inputs"]["method"] == method)


@pytest.fixture(scope="module")
def pixels() -> npt.NDArray[np.uint8]:
    """An image [150, 200, 4] of rendered scenes side by side."""
    source = TASKS["fbp_cs"].embedded
    assert source
    scenes = SCALES["test"].scenes
    assert scenes
    reader = source.open(scenes)
    tiles = [reader.read(tile).image for tile in reader.tiles("gf1")]
    rows = [np.concatenate([tiles[(i + j) % len(tiles)] for j in range(4)], 1) for i in range(3)]
    return np.ascontiguousarray(np.concatenate(rows)[:150, :200]).astype(np.uint8)


def write(path: Path, pixels: npt.NDArray[np.generic], **profile: object) -> Path:
    """A GeoTIFF in UTM 50 N."""
    height, width, bands = pixels.shape
    facts = {"crs": "EPSG:32650", "transform": PLACE, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=pixels.dtype, **facts
    ) as raster:
        raster.write(np.moveaxis(pixels, -1, 0))
    return path


@pytest.fixture
def image(tmp_path: Path, pixels: npt.NDArray[np.uint8]) -> Path:
    """`pixels` as a GeoTIFF."""
    return write(tmp_path / "scene.tif", pixels)


def labels_of(path: Path) -> npt.NDArray[np.uint8]:
    with rasterio.open(path) as raster:
        labels: npt.NDArray[np.uint8] = raster.read(1)
        return labels


def test_labels_lie_where_the_image_lies(program: Program, smoke_results: Path, image: Path) -> None:
    key = key_of(smoke_results, "rein")
    result = program("predict", image, "--record", key[:8], "--results", smoke_results, "--scale", "test")
    assert result.exit_code == 0, result
    out = image.with_name(f"scene_{key[:8]}_classes.tif")
    with rasterio.open(out) as raster:
        assert (raster.height, raster.width, raster.count) == (150, 200, 1)
        assert raster.crs.to_epsg() == 32650
        assert raster.transform == PLACE
        assert raster.nodata == IGNORE
        classes, palette = TASKS["fbp_cs"].embedded.classes, TASKS["fbp_cs"].embedded.palette
        assert [raster.tags()[f"class_{i}"] for i in range(len(classes))] == list(classes)
        assert [raster.colormap(1)[i][:3] for i in range(len(classes))] == list(palette)
        labels = raster.read(1)
    assert set(np.unique(labels)) <= set(range(len(classes)))
    name, share = max(((n, (labels == i).mean()) for i, n in enumerate(classes)), key=lambda item: item[1])
    assert f"{share:.1%} {name}" in result.text
    with Picture.open(out.with_suffix(".png")) as preview:
        assert preview.size[0] > 1000


def test_a_windows_middle_is_what_the_model_says_there(program: Program, smoke_results: Path, image: Path) -> None:
    store = RecordStore(smoke_results / "test" / "records")
    record = store.load(key_of(smoke_results, "lora"))
    assert record
    trial = restore_trial(record)
    assert trial.key == record.key
    model, statistics = restore_model(trial, record, store)
    out = image.with_name("out.tif")
    args = ("--record", record.key, "--results", smoke_results, "--scale", "test", "--out", out)
    assert program("predict", image, *args).exit_code == 0
    with rasterio.open(image) as raster:
        window = torch.from_numpy(raster.read()[:, 48:112, 96:160].astype(np.float32))
    mean, std = (torch.tensor(values)[:, None, None] for values in (statistics.mean, statistics.std))
    expected = model.predict(((window - mean) / std)[None])[0].numpy()
    np.testing.assert_array_equal(labels_of(out)[56:104, 104:152], expected[8:56, 8:56])
    again = image.with_name("again.tif")
    program("predict", image, *args[:-1], again, "--overlap", "0")
    assert (labels_of(again) != labels_of(out)).any(), "the overlap does nothing"


@pytest.mark.parametrize("length", [1, 40, 64, 65, 100, 128, 1000])
@pytest.mark.parametrize("margin", [0, 8, 28])
def test_windows_answer_for_every_pixel_once_and_never_at_their_edge(length: int, margin: int) -> None:
    found = spans(length, 64, margin)
    assert [span.begin for span in found] == [0, *(span.end for span in found[:-1])]
    assert found[-1].end == length
    window = min(64, length)
    for span in found:
        assert 0 <= span.window <= length - window
        assert span.window <= span.begin < span.end <= span.window + window
        assert span.begin == 0 or span.begin - span.window >= margin
        assert span.end == length or span.window + window - span.end >= margin


@pytest.mark.parametrize("shape", [(64, 64), (10, 300), (33, 20)])
def test_any_size_will_do(
    program: Program, smoke_results: Path, tmp_path: Path, pixels: npt.NDArray[np.uint8], shape: tuple[int, int]
) -> None:
    rows, columns = shape
    small = write(tmp_path / "small.tif", np.tile(pixels, (1, 2, 1))[:rows, :columns])
    out = tmp_path / "out.tif"
    args = ("--record", key_of(smoke_results, "frozen"), "--results", smoke_results, "--scale", "test", "--out", out)
    result = program("predict", small, *args)
    assert result.exit_code == 0, result
    assert labels_of(out).shape == shape
    assert (labels_of(out) != IGNORE).all()


def test_where_there_is_no_image_there_is_no_label(
    program: Program, smoke_results: Path, tmp_path: Path, pixels: npt.NDArray[np.uint8]
) -> None:
    hole = pixels.copy()
    hole[:30, :50] = 0
    hole[100:, 150:] = 9
    file = write(tmp_path / "hole.tif", hole, nodata=9)
    out = tmp_path / "out.tif"
    args = ("--record", key_of(smoke_results, "frozen"), "--results", smoke_results, "--scale", "test", "--out", out)
    result = program("predict", file, *args)
    assert result.exit_code == 0, result
    labels = labels_of(out)
    assert (labels[:30, :50] == IGNORE).all()
    assert (labels[100:, 150:] == IGNORE).all()
    assert (labels[40:90, 60:140] != IGNORE).all()
    # a fourth band of 0 is dark blue, whatever writers take it for
    hole[40:90, 60:140, 3] = 0
    assert program("predict", write(tmp_path / "dark.tif", hole, nodata=9), *args, "--force").exit_code == 0
    assert (labels_of(out)[40:90, 60:140] != IGNORE).all()
    assert (labels_of(out)[100:, 150:] == IGNORE).all()
    assert f"{(labels == IGNORE).mean():.1%} no image" in result.text


def read_all(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """All of an image as the network and as the preview get it."""
    with open_image(path, TASKS["fbp_cs"], ()) as opened:
        return *opened.read(Window(0, 0, opened.width, opened.height)), opened.small()


@pytest.mark.parametrize("nodata", [-9999.0, np.nan, np.inf, -3.4028234663852886e38])
def test_the_value_of_no_data_is_never_seen(
    program: Program, smoke_results: Path, tmp_path: Path, pixels: npt.NDArray[np.uint8], nodata: float
) -> None:
    """Images that differ in it alone are read alike: zero, as in training, in the labels and in the preview."""
    hole = pixels.astype(np.float32)
    hole[:60, :50] = hole[40:50, 80:90, 1] = 0
    missing = hole.copy()
    missing[:60, :50] = missing[40:50, 80:90, 1] = nodata
    hole[40:50, 80:90] = 0
    outs = {"zero": tmp_path / "zero_out.tif", "value": tmp_path / "value_out.tif"}
    files = {
        "zero": write(tmp_path / "zero.tif", hole, nodata=0),
        "value": write(tmp_path / "value.tif", missing, nodata=nodata),
    }
    for name, file in files.items():
        args = ("--results", smoke_results, "--scale", "test", "--out", outs[name])
        result = program("predict", file, "--record", key_of(smoke_results, "frozen"), *args)
        assert result.exit_code == 0, result
        assert "other units" not in result.text
    assert (labels_of(outs["zero"])[:60, :50] == IGNORE).all()
    np.testing.assert_array_equal(labels_of(outs["value"]), labels_of(outs["zero"]))
    for ours, theirs in zip(read_all(files["value"]), read_all(files["zero"]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    previews = [np.asarray(Picture.open(out.with_suffix(".png"))) for out in outs.values()]
    np.testing.assert_array_equal(*previews)


def test_an_image_mostly_without_data_is_judged_by_the_rest(
    program: Program, smoke_results: Path, tmp_path: Path, pixels: npt.NDArray[np.uint8]
) -> None:
    args = ("--record", key_of(smoke_results, "frozen"), "--results", smoke_results, "--scale", "test")
    empty = np.full(pixels.shape, -9999, np.float32)
    result = program("predict", write(tmp_path / "empty.tif", empty, nodata=-9999), *args)
    assert result.exit_code == 0, result
    assert "the image holds no data" in result.text
    empty[50:100, 50:100] = 100.0 * pixels[50:100, 50:100]
    result = program("predict", write(tmp_path / "scaled.tif", empty, nodata=-9999), *args)
    assert "other units, or bands in another order" in result.text
    empty[50:100, 50:100] = pixels[50:100, 50:100]
    result = program("predict", write(tmp_path / "sound.tif", empty, nodata=-9999), *args)
    assert result.exit_code == 0, result
    assert "other units" not in result.text


def test_bands_are_taken_as_stored_in_the_order_asked_for(
    program: Program, smoke_results: Path, image: Path, tmp_path: Path, pixels: npt.NDArray[np.uint8]
) -> None:
    args = ("--record", key_of(smoke_results, "rein"), "--results", smoke_results, "--scale", "test")
    outs = {name: tmp_path / f"{name}.tif" for name in ("plain", "turned", "cmyk")}
    assert program("predict", image, *args, "--out", outs["plain"]).exit_code == 0
    turned = write(tmp_path / "rgbn5.tif", np.concatenate([pixels[..., [1, 2, 3, 0]], pixels[..., :1] // 2], -1))
    result = program("predict", turned, *args, "--out", outs["turned"], "--bands", "4,1,2,3")
    assert result.exit_code == 0, result
    separated = tmp_path / "separated.tif"
    tifffile.imwrite(separated, pixels, photometric="separated", planarconfig="contig")
    result = program("predict", separated, *args, "--out", outs["cmyk"])
    assert result.exit_code == 0, result
    assert "does not say where it lies" in result.text
    plain = labels_of(outs["plain"])
    np.testing.assert_array_equal(labels_of(outs["turned"]), plain)
    np.testing.assert_array_equal(labels_of(outs["cmyk"]), plain)


def test_values_of_another_unit_are_warned_about(
    program: Program, smoke_results: Path, tmp_path: Path, pixels: npt.NDArray[np.uint8]
) -> None:
    args = ("--record", key_of(smoke_results, "frozen"), "--results", smoke_results, "--scale", "test")
    file = write(tmp_path / "uint16.tif", pixels.astype(np.uint16) * 100)
    result = program("predict", file, *args)
    assert result.exit_code == 0, result
    assert "other units, or bands in another order" in result.text
    plain = write(tmp_path / "uint8.tif", pixels)
    assert "other units" not in program("predict", plain, *args).text


@pytest.fixture
def mistakes(smoke_results: Path, image: Path, tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    """Arguments that are wrong, and what the message must say."""
    key = key_of(smoke_results, "frozen")
    three = write(tmp_path / "three.tif", np.ones((8, 8, 3), np.uint8))
    torn = tmp_path / "torn.tif"
    torn.write_bytes(image.read_bytes()[:300])
    text = tmp_path / "text.tif"
    text.write_text("no image")
    taken = tmp_path / "taken.tif"
    taken.write_text("mine")
    base: list[object] = ["--record", key, "--results", smoke_results, "--scale", "test", "--out", tmp_path / "o.tif"]
    return {
        "three bands": ([three, *base], "has 3 bands; the record was trained on 4: NIR (0.83 µm), R"),
        "no such band": ([image, *base, "--bands", "5,1,2,3"], "has no band 5, only 4"),
        "too few": ([image, *base, "--bands", "1,2"], "--bands names 2; the record was trained on 4"),
        "no numbers": ([image, *base, "--bands", "NIR,R"], "write the numbers of bands"),
        "missing": ([tmp_path / "none.tif", *base], "none.tif does not exist"),
        "no raster": ([text, *base], "text.tif cannot be read"),
        "torn": ([torn, *base], "torn.tif"),
        "overlap": ([image, *base, "--overlap", "1"], "--overlap 1.0: give a share from 0 to 0.9"),
        "taken": ([image, *base[:-1], taken], "taken.tif exists already"),
        "format": ([image, *base[:-1], tmp_path / "o.png"], "give a name that ends in .tif"),
        "itself": ([image, *base[:-1], image, "--force"], "scene.tif exists already"),
        "record": ([image, "--record", "ffff", *base[2:]], "no record begins with 'ffff'"),
        "method": ([image, *base, "--method", "rein"], "is of method 'frozen'"),
    }


def test_mistakes_are_told_in_one_line_and_nothing_is_written(
    program: Program, mistakes: dict[str, tuple[list[object], str]], tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for name, (args, message) in mistakes.items():
        result = program("predict", *args)
        assert result.exit_code == 2, (name, result)
        assert message in result.text, (name, result)
        assert "Traceback" not in result.text, name
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


OUTSIDE = """
from dataclasses import dataclass
from methods.frozen import Frozen
from methods.options import FrozenOptions

@dataclass(frozen=True, kw_only=True)
class MineOptions(FrozenOptions):
    name = "mine"
    title = "Mine"

class Mine(Frozen):
    Options = MineOptions
"""


def test_a_method_from_a_file_is_named_again(program: Program, image: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OUTSIDE)
    results = tmp_path / "results"
    only = ("--task", "fbp_cs", "--method", f"{file}:Mine", "--results", results)
    assert program(*TINY, *only).exit_code == 0
    key = key_of(results, "mine")
    args = ("predict", image, "--record", key, "--results", results, "--scale", "test")
    assert "unknown method 'mine'" in program(*args).text
    assert program(*args, "--method", f"{file}:Mine").exit_code == 0
    file.write_text(OUTSIDE + "\n# changed\n")
    result = program(*args, "--method", f"{file}:Mine", "--force")
    assert result.exit_code == 2
    assert "its method_source_sha256 differ" in result.text
