"""A user's own sensor as a task: the example of the documents runs, its key holds what counts, mistakes are told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from benchmarks.tasks import TileRef
from benchmarks.user_definition import BandEntry, ClassEntry, Definition, DomainEntry
from benchmarks.user_reader import MOST_PX, read_raster
from benchmarks.user_task import load_task
from harness import pipeline
from harness.plan import Request, make_plan
from tests.conftest import TINY, Program, assert_refused, bodies, outcomes, run_program
from tests.data_files import blobs, png, write_loveda
from tests.user_files import CLASS, COLOURS, EXAMPLE, write_tiff, write_valley

ONE = ("--suite", "all", "--seeds", 1, *TINY[2:], "--method", "frozen", "--backbone", "dinov3")
Files = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """The example with its files."""
    write_valley(tmp_path / "valley")
    return tmp_path / "valley" / "my_task.toml"


def key(path: Path, **words: Any) -> str:
    """The key of a trial of the task."""
    request = Request(suite="all", scale="test", tasks=[str(path)], methods=["frozen"], backbones=["dinov3"], seeds=1)
    (planned,) = make_plan(Request(**{**vars(request), **words}), None).trials
    return planned.trial.key


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that stands there once or more, the first time."""
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def test_the_example_runs_from_end_to_end(program: Program, tmp_path: Path) -> None:
    files = write_valley(tmp_path / "valley")
    task, results = tmp_path / "valley" / "my_task.toml", tmp_path / "results"
    result = program("data", "verify", task, "--workers", 1)
    assert result.exit_code == 0, result
    assert "no faults" in result.text
    result = program("data", "stats", task, "--workers", 2)
    assert result.exit_code == 0, result
    result = program("data", "show", task, "--out", tmp_path / "sheet.png", "--tiles", 2)
    assert result.exit_code == 0, result
    assert Image.open(tmp_path / "sheet.png").format == "PNG"
    result = program(*ONE, "--task", task, "--results", results)
    assert result.exit_code == 0, result
    (body,) = bodies(results).values()
    assert body["result"]["inputs"]["task"] == "valley"
    assert body["result"]["labels"]["data"] == "files"
    assert body["result"]["classes"] == ["water", "field", "wood", "built up"]
    assert set(body["result"]["tiles"]["domain"]) == {"source_val", "sat_north", "sat_south"}
    tiles = body["result"]["tiles"]
    held = {scene for scene, domain in zip(tiles["scene"], tiles["domain"], strict=True) if domain == "source_val"}
    assert held == {"n2"}, "the pattern names scenes"
    trained = [pair for name, pair in files.items() if name.startswith(("aerial/n1", "aerial/n3"))]
    pixels = np.concatenate([image[(label > 0) & image.all(-1)] for image, label in trained]).astype(float)
    np.testing.assert_allclose(body["result"]["statistics"]["mean"], pixels.mean(0), rtol=1e-9)
    (table,) = (results / "test" / "tables").glob("valley-*.md")
    assert "satellite, south valley" in table.read_text()


def test_pixels_are_those_of_the_files(tmp_path: Path) -> None:
    """Big-endian, tagged CMYK, bands in another order, no data in some."""
    files = write_valley(tmp_path)
    source = load_task(tmp_path / "my_task.toml").files
    assert source
    reader = source.open(tmp_path)
    found = {f"{tile.domain}/{tile.name}": tile for domain in (source.source, *source.targets)
             for tile in reader.tiles(domain)}  # fmt: skip
    assert set(found) == set(files)
    assert {tile.scene for tile in found.values()} == {"n1", "n2", "n3", "s1", "s2"}
    for name, (image, label) in files.items():
        sample, empty = reader.read(found[name]), ~image.all(-1)
        np.testing.assert_array_equal(sample.image, np.where(empty[..., None], 0, image))
        np.testing.assert_array_equal(sample.label, np.where(empty, 255, CLASS[label]))
        assert sample.image.dtype == np.uint16
        assert sample.image.dtype.isnative
    assert any((~image.all(-1)).any() for image, _ in files.values())


def write_scene(path: Path, bands: int = 4) -> Path:
    """An image of the example's sensor, larger than a tile."""
    scene = 20 * blobs(np.random.default_rng(3), 96, 80, COLOURS)[0].astype(np.uint16)
    write_tiff(path, scene[..., :bands])
    return path


def test_its_model_is_applied_to_an_image(program: Program, task: Path, tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "out.tif"
    assert program(*ONE, "--task", task, "--results", results).exit_code == 0
    ((key, body),) = bodies(results).items()
    scene = write_scene(tmp_path / "scene.tif")
    predict = ("predict", scene, "--record", key, "--results", results, "--scale", "test", "--out", out)
    assert_refused(program(*predict), "task 'valley'", "none of the built-in", "--task path/to/task.toml")
    moved = tmp_path / "elsewhere.toml"
    shutil.copy(task, moved)
    result = program(*predict, "--task", moved)
    assert result.exit_code == 0, result
    labels = read_raster(out)[..., 0]
    assert labels.shape == (96, 80)
    assert set(np.unique(labels)) <= set(range(len(body["result"]["classes"])))
    for name in body["result"]["classes"]:
        share = (labels == body["result"]["classes"].index(name)).mean()
        assert not share or f"{share:.1%} {name}" in result.text


RED = '[[bands]]\nname = "R"\ncentre_um = 0.665\nfwhm_um = 0.030\n'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "valley"', 'name = "dale"', ("defines 'dale'", "is of task 'valley'")),
        ("version = 1", "version = 2", ("has version 2", "was made with 1")),
        (RED, "", ("has 3 bands", "was trained on 4", "as it was then")),
        ('name = "wood"', 'name = "forest"', ("water, field, forest, built up", "trained on water, field, wood")),
    ],
)
def test_a_task_file_that_is_another_is_refused(
    program: Program, trained: Path, tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    (key,) = bodies(trained)
    other = tmp_path / "other.toml"
    shutil.copy(EXAMPLE, other)
    edit(other, old, new)
    text = other.read_text().replace("file_bands = [3, 2, 1, 4]", "") if not new else other.read_text()
    other.write_text(text)
    before = {path.name for path in tmp_path.iterdir()}
    scene = write_scene(tmp_path / "scene.tif")
    result = program("predict", scene, "--record", key, "--results", trained, "--scale", "test", "--task", other)
    assert_refused(result, *words)
    assert {path.name for path in tmp_path.iterdir()} == before | {"scene.tif"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one trial on the example."""
    folder = tmp_path_factory.mktemp("trained")
    write_valley(folder / "valley")
    task = folder / "valley" / "my_task.toml"
    assert run_program(*ONE, "--task", task, "--results", folder / "results").exit_code == 0
    return folder / "results"


def test_per_image_numbers_say_nothing_of_bands_and_predict_still_works(
    program: Program, task: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    more = ("--set", "protocol.normalisation=per_image", "--results", results)
    assert program(*ONE, "--task", task, *more).exit_code == 0
    ((key, body),) = bodies(results).items()
    assert body["result"]["statistics"] == {"mean": [], "std": []}
    scene = write_scene(tmp_path / "scene.tif")
    result = program("predict", scene, "--record", key, "--results", results, "--scale", "test", "--task", task)
    assert result.exit_code == 0, result


@pytest.mark.slow
def test_workers_of_ray_run_it(program: Program, cluster: str, task: Path, tmp_path: Path) -> None:
    assert program(*ONE, "--task", task, "--results", tmp_path / "local").exit_code == 0
    more = ("--executor", "ray", "--workers", 1, "--address", cluster, "--results", tmp_path / "ray")
    result = program(*ONE, "--task", task, *more)
    assert result.exit_code == 0, result
    assert outcomes(tmp_path / "ray") == outcomes(tmp_path / "local")


# The trial key


def test_the_key_knows_no_place_and_no_words_for_people(task: Path, tmp_path: Path) -> None:
    before = key(task)
    elsewhere = tmp_path / "elsewhere" / "other_name.toml"
    shutil.copytree(task.parent, elsewhere.parent)
    (elsewhere.parent / "my_task.toml").rename(elsewhere)
    assert key(elsewhere) == before
    alone = tmp_path / "alone.toml"
    shutil.copy(EXAMPLE, alone)
    assert key(alone, data_root=task.parent) == before
    edit(task, "# A task of one's own", "# Another remark")
    edit(task, 'title = "land use', 'title = "Land use')
    edit(task, "colour = [0, 92, 230]", "colour = [1, 2, 3]")
    edit(task, "gsd_m = 2.0", "gsd_m = 2.5")
    assert key(task) == before


def grow_a_file(task: Path) -> None:
    path = task.parent / "satellite" / "s1" / "north" / "t1_image.tif"
    path.write_bytes(path.read_bytes() + b"\0")


def add_a_tile(task: Path) -> None:
    for kind, suffix in (("images", "tif"), ("labels", "png")):
        folder = task.parent / "aerial" / kind
        shutil.copy(folder / f"n1_r0_c0.{suffix}", folder / f"n1_r9_c9.{suffix}")


@pytest.mark.parametrize(
    "change",
    [
        ("version = 1", "version = 2"),
        ("centre_um = 0.560", "centre_um = 0.550"),
        ("values = [2, 3]\n", "values = [2]\n"),
        ('name = "wood"', 'name = "forest"'),
        ("nodata = 0", "nodata = 1"),
        ("file_bands = [3, 2, 1, 4]", "file_bands = [1, 2, 3, 4]"),
        (r"scene = '(.+)_r\d+_c\d+'", "scene = '(..)'"),
        (r"scene = '(.+)_r\d+_c\d+'", r"scene = '(.+)_c\d+'"),
        grow_a_file,
        add_a_tile,
    ],
)
def test_the_key_holds_what_changes_numbers(task: Path, change: tuple[str, str] | Callable[[Path], None]) -> None:
    before = key(task)
    if callable(change):
        change(task)
    else:
        edit(task, *change)
    same = change == (r"scene = '(.+)_r\d+_c\d+'", "scene = '(..)'")  # finds the same scenes
    assert (key(task) == before) is same


# Mistakes in the task file


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "valley"', 'name = "fbp_cs"', ("name = 'fbp_cs'", "built-in")),
        ('name = "valley"', 'name = "the valley"', ("name = 'the valley'", "letters, digits")),
        ("version = 1", "version = 0", ("version = 0", "from 1")),
        ("version = 1", "", ("version is missing", "whole number")),
        ("gsd_m = 2.0", "gsd = 2.0", ("source.gsd is unknown", "did you mean gsd_m?")),
        ("nodata = 0", "palette = 0", ("palette is unknown", "known here: name, title")),
        ("centre_um = 0.560", "centre_um = 560", ("bands.2.centre_um = 560", "490 nm is 0.49")),
        ("colour = [0, 92, 230]", "colour = [0, 92, 256]", ("classes.1.colour.3 = 256", "[0, 0, 200]")),
        ("values = [4]", "values = [3]", ("classes", "value 3", "twice")),
        ("ignore = [0]", "ignore = [5]", ("value 5", "`ignore`")),
        ('name = "wood"', 'name = "water"', ("classes", "'water'", "twice")),
        ('name = "G"', 'name = "B"', ("bands", "'B'", "twice")),
        ('name = "sat_south"', 'name = "aerial"', ("source and targets", "'aerial'")),
        ('name = "sat_south"', 'name = "target"', ("targets.2.name = 'target'", "choose another")),
        ("file_bands = [3, 2, 1, 4]", "file_bands = [3, 2]", ("targets.1.file_bands", "2 positions for 4 bands")),
        ("file_bands = [3, 2, 1, 4]", "file_bands = [0, 2, 1, 4]", ("targets.1.file_bands.1 = 0", "from 1")),
        (r"scene = '(.+)_r\d+_c\d+'", "scene = '('", ("source.scene", "regular expression")),
        (r"scene = '(.+)_r\d+_c\d+'", "scene = 'n.'", ("source.scene", "no group")),
        ('dtype = "uint16"', 'dtype = "float64"', ("dtype = 'float64'", "float32")),
        ("nodata = 0", "nodata = -9999", ("nodata = -9999", "uint16")),
        ("[source]", "[[targets]]", ("source is missing",)),
        ("[[bands]]", "[[bands]", ("no TOML", "line 11")),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_key_value_and_remedy(
    program: Program, task: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    edit(task, old, new)
    assert_refused(program("data", "info", task), str(task), *words)


def test_a_task_file_that_is_not_there(program: Program, tmp_path: Path) -> None:
    result = program(*ONE, "--task", tmp_path / "none.toml", "--results", tmp_path / "results")
    assert_refused(result, "none.toml", "cannot be read", "path/to/task.toml")
    assert not (tmp_path / "results").exists()


# Mistakes in its files


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def remove_folders(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for name in names:
            shutil.rmtree(folder / name)

    return spoil


def two_domains_of_one_folder(folder: Path) -> None:
    for kind in ("image", "label"):
        edit(folder / "my_task.toml", f"south/*_{kind}", f"north/*_{kind}")


def image(name: str, pixels: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: write_tiff(folder / name, pixels)


def label(name: str, pixels: np.ndarray) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(png(pixels))

    return spoil


def smaller_pair(folder: Path) -> None:
    image(LAST, np.ones((32, 64, 4), np.uint16))(folder)
    label("aerial/labels/n3_r0_c1.png", np.ones((32, 64), np.uint8))(folder)


def cut_off(folder: Path) -> None:
    (folder / FIRST).write_bytes((folder / FIRST).read_bytes()[:-100])


def stray(folder: Path) -> None:
    (folder / "aerial/images/other.tif").write_bytes(b"")


def no_png(folder: Path) -> None:
    (folder / "aerial/labels/n1_r0_c0.png").write_bytes(b"no PNG")


def twice(folder: Path) -> None:
    shutil.copy(folder / LAST, folder / "aerial/images/n3_r0_c1.png")


FIRST = "aerial/images/n1_r0_c0.tif"
LAST = "aerial/images/n3_r0_c1.tif"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (stray, ("other.tif", "scene = ")),
        (remove_folders("satellite"), ("no folder", "satellite", "images of domain sat_north")),
        (remove_folders("satellite/s1", "satellite/s2"), ("no file */north/*_image.tif",)),
        (two_domains_of_one_folder, ("sat_north and sat_south", "counted twice")),
        (twice, ("the same tile",)),
    ],
)
def test_files_that_cannot_be_listed(
    program: Program, task: Path, spoil: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    spoil(task.parent)
    assert_refused(program("data", "verify", task, "--workers", 1), *words)


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("aerial/labels/n2_r0_c1.png", ("n2_r0_c1.tif has no label", "`pair`")),
        ("satellite/s1/south/t1_image.tif", ("t1_label.png has no image", "`pair`")),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_without_its_partner_is_a_fault_and_nothing_trains(
    program: Program, task: Path, tmp_path: Path, lost: str, words: tuple[str, ...], workers: int
) -> None:
    remove(lost)(task.parent)
    image(LAST, np.ones((64, 64, 3), np.uint16))(task.parent)
    result = program("data", "verify", task, "--workers", workers)
    assert result.exit_code == 1, result
    faults = [line for line in result.out.splitlines() if line.startswith("fault")]
    assert all(word in faults[0] for word in words), faults
    assert len(faults) == 2, "the other tiles are read all the same"
    assert LAST in faults[1]
    results = tmp_path / "results"
    assert_refused(program(*ONE, "--task", task, "--results", results), *words)
    assert not bodies(results)


def test_a_domain_without_pairs_is_a_fault_beside_its_files(program: Program, task: Path) -> None:
    lost = sorted((task.parent / "satellite").glob("*/south/*_label.png"))
    for path in lost[1:]:
        path.unlink()
    lost[0].rename(lost[0].with_name("other_label.png"))
    result = program("data", "verify", task, "--workers", 1)
    assert result.exit_code == 1, result
    assert "fault no image of domain 'sat_south' has a label" in result.out


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (image(LAST, np.ones((64, 64, 3), np.uint16)), (LAST, "3 band(s)", "expected the task's 4", "file_bands")),
        (image(LAST, np.ones((64, 64, 4), np.uint8)), (LAST, "uint8", "expected uint16", "dtype")),
        (image(LAST, np.ones((64, 60, 4), np.uint16)), ("n3_r0_c1.png has 64 x 64", "60 x 64")),
        (image("satellite/s1/north/t1_image.tif", np.ones((64, 64, 3), np.uint16)), ("3 band(s)", "band 4")),
        (image(LAST, np.ones((64, MOST_PX + 1, 4), np.uint16)), (f"{MOST_PX + 1} x 64", "gdal_retile")),
        (smaller_pair, ("64 x 32", "one size")),
        (label("aerial/labels/n1_r0_c0.png", np.full((64, 64), 7, np.uint8)), ("the value 7", "0, 1, 2, 3, 4, 5")),
        (label("aerial/labels/n1_r0_c0.png", np.ones((64, 64, 3), np.uint8)), ("3 band(s)", "expected one")),
        (cut_off, (FIRST, "truncated")),
        (no_png, ("n1_r0_c0.png", "cannot be read")),
    ],
)
def test_planted_faults_are_found(
    program: Program, task: Path, spoil: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    spoil(task.parent)
    result = program("data", "verify", task, "--workers", 1)
    assert result.exit_code == 1, result
    faults = [line for line in result.out.splitlines() if line.startswith("fault")]
    assert any(all(word in line for word in words) for line in faults), faults


def as_float(task: Path, value: float, nodata: str) -> Callable[[], Any]:
    """The example in float32 with one pixel of a value; returns how to read that tile."""
    edit(task, 'dtype = "uint16"', 'dtype = "float32"')
    edit(task, "nodata = 0  ", f"{nodata}  ")
    pixels = np.ones((64, 64, 4), np.float32)
    pixels[3, 5, 1] = value
    write_tiff(task.parent / LAST, pixels)
    for path in task.parent.glob("aerial/images/*.tif"):
        if path.name != Path(LAST).name:
            write_tiff(path, np.ones((64, 64, 4), np.float32))
    source = load_task(task).files
    assert source
    reader = source.open(task.parent)
    return lambda: reader.read(TileRef(domain="aerial", scene="n3", name="n3_r0_c1"))


def test_pixels_that_are_no_numbers(task: Path) -> None:
    read = as_float(task, np.nan, "")
    with pytest.raises(ValueError, match=r"n3_r0_c1.tif holds NaN or infinity; name the value .* in `nodata`"):
        read()


@pytest.mark.parametrize(("value", "nodata"), [(np.nan, "nodata = nan"), (-9999.0, "nodata = -9999")])
def test_pixels_without_data(task: Path, value: float, nodata: str) -> None:
    sample = as_float(task, value, nodata)()
    assert sample.label[3, 5] == 255
    assert not sample.image[3, 5].any()
    assert np.all(np.delete(sample.image.reshape(-1, 4), 3 * 64 + 5, axis=0) == 1)


def test_signed_pixels_become_floats(task: Path) -> None:
    edit(task, 'dtype = "uint16"', 'dtype = "int16"')
    edit(task, "nodata = 0  ", "nodata = -1  ")
    pixels = np.random.default_rng(0).integers(-500, 10_000, (64, 64, 4)).astype(np.int16)
    pixels[pixels == -1] = 0
    for path in task.parent.glob("aerial/images/*.tif"):
        write_tiff(path, pixels)
    source = load_task(task).files
    assert source
    sample = source.open(task.parent).read(TileRef(domain="aerial", scene="n1", name="n1_r0_c0"))
    assert sample.image.dtype == np.float32
    np.testing.assert_array_equal(sample.image, pixels)


def test_eight_bits_tagged_cmyk_are_not_converted(tmp_path: Path) -> None:
    """GDAL would give inverted colours and a fourth band of 255."""
    bands = np.random.default_rng(0).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    write_tiff(tmp_path / "tile.tif", bands, photometric="separated")
    np.testing.assert_array_equal(read_raster(tmp_path / "tile.tif"), bands)


def test_rasters_that_are_no_tiff_are_read_as_stored(tmp_path: Path) -> None:
    """Pillow cuts 16-bit colour to 8 bits without a word."""
    import rasterio

    deep = np.random.default_rng(0).integers(0, 1 << 16, (3, 20, 30)).astype(np.uint16)
    with rasterio.open(tmp_path / "deep.png", "w", driver="PNG", width=30, height=20, count=3, dtype="uint16") as file:
        file.write(deep)
    np.testing.assert_array_equal(read_raster(tmp_path / "deep.png"), deep.transpose(1, 2, 0))
    index = np.arange(600, dtype=np.uint8).reshape(20, 30) % 5
    coloured = Image.fromarray(index, mode="L").convert("P")
    coloured.putdata(index.reshape(-1).tolist())
    coloured.putpalette([7, 7, 7, 200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    coloured.save(tmp_path / "index.png")
    np.testing.assert_array_equal(read_raster(tmp_path / "index.png")[..., 0], index)
    whole = (tmp_path / "deep.png").read_bytes()
    (tmp_path / "deep.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"deep.png cannot be read"):
        read_raster(tmp_path / "deep.png")


# Among the other tasks


def test_severity_and_preparing_are_for_others(program: Program, task: Path, tmp_path: Path) -> None:
    assert_refused(program("plan", *ONE, "--task", task, "--severity", 0.5), "--severity", "valley has none")
    assert_refused(program("data", "show", task, "--severity", 0.5), "--severity", "synthetic scenes")
    where = ("--raw", tmp_path, "--out", tmp_path / "out")
    assert_refused(program("data", "prepare", task, *where), "read as they are", "data verify")


def test_two_files_of_one_name(program: Program, task: Path) -> None:
    other = task.with_name("other.toml")
    shutil.copy(task, other)
    assert_refused(program("plan", *ONE, "--task", task, "--task", other), "two task files define 'valley'")


def test_it_runs_beside_rendered_and_prepared_tasks(program: Program, task: Path, tmp_path: Path) -> None:
    result = program("plan", *ONE, "--task", task, "--task", "fbp_cs", "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    assert "2 trials" in result.text
    write_loveda(tmp_path / "raw", per_side=3)
    where = ("--raw", tmp_path / "raw", "--out", task.parent, "--tile", 64, "--workers", 1)
    assert program("data", "prepare", "loveda_r2u", *where).exit_code == 0
    beside = ("--task", task, "--task", "loveda_r2u", "--data-root", task.parent)
    result = program("plan", *ONE, *beside, "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    assert "valley" in result.text
    assert "2 trials" in result.text


def test_colours_of_16_bits_are_distorted_in_training(program: Program, task: Path, tmp_path: Path) -> None:
    losses = set()
    for jitter in ("true", "false"):
        results = tmp_path / jitter
        with mock.patch.object(pipeline, "source_statistics", wraps=pipeline.source_statistics) as measured:
            result = program(*ONE, "--task", task, "--set", f"protocol.photometric={jitter}", "--results", results)
        assert result.exit_code == 0, result
        assert measured.call_count == 1, "what is bright comes from the statistics that normalise"
        (body,) = bodies(results).values()
        losses.add(body["result"]["points"][0]["task_loss"])
    assert len(losses) == 2


def test_the_page_tells_every_key() -> None:
    page = (EXAMPLE.parents[1] / "datasets.md").read_text().split("## Your own sensor")[1]
    for entry in (Definition, BandEntry, ClassEntry, DomainEntry):
        for field in fields(entry):
            assert f"`{field.name}`" in page or f"`[{field.name}]`" in page or f"`[[{field.name}]]`" in page, field.name
