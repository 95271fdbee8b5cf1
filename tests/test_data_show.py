"""`data show` and `data info`: which tiles are shown, how, and what is told of a task."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.catalogue import TASKS
from benchmarks.recipes import RECIPES, load_recipe
from benchmarks.tasks import IGNORE, Sample, TileRef
from harness.contact_sheet import choose, find_colours, find_stretch
from tests.conftest import Program, assert_refused, run_process
from tests.data_files import write_loveda
from tests.fbp_files import write_fbp
from tests.test_cli import HEAVY, TELL_IMPORTS

LIGHT = [name for name in HEAVY if name != "pandas"]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))


def count(image: np.ndarray, colour: Sequence[int]) -> int:
    return int((image == np.array(colour, np.uint8)).all(-1).sum())


@pytest.mark.parametrize("task", TASKS)
def test_a_sheet_of_every_mirror(program: Program, tmp_path: Path, task: str) -> None:
    path = tmp_path / "new folder" / "sheet.png"
    result = program("data", "show", task, "--tiles", 2, "--out", path)
    assert result.exit_code == 0, result
    assert Image.open(path).info["Title"] == f"{task}: {TASKS[task].title}"
    assert "Rendered, not photographed" in Image.open(path).info["Description"]
    source = TASKS[task].embedded
    assert source
    image = pixels(path)
    legend = 60 * 33  # a colour's field of the legend alone
    shown = [name for name, colour in zip(source.classes, source.palette, strict=True) if count(image, colour) > legend]
    assert len(shown) > len(source.classes) / 2
    for domain in (source.source, *source.targets):
        assert f"{domain}_00" in result.out


def test_the_same_seed_shows_the_same_and_another_one_others(program: Program, tmp_path: Path) -> None:
    def show(name: str, *more: object) -> bytes:
        result = program("data", "show", "loveda_r2u", "--tiles", 2, "--out", tmp_path / name, *more)
        assert result.exit_code == 0, result
        return (tmp_path / name).read_bytes()

    first = show("a.png")
    assert show("b.png") == first
    assert len({first, show("c.png", "--seed", 1), show("d.png", "--severity", 0.5)}) == 3
    assert list(tmp_path.glob(".*")) == []


def test_files_are_shown_with_what_their_recipe_or_manifest_says(program: Program, tmp_path: Path) -> None:
    files = write_fbp(tmp_path / "fbp")
    result = program("data", "show", "fbp_cs", "--data", tmp_path / "fbp", "--out", tmp_path / "fbp.png")
    assert result.exit_code == 0, result
    assert sum(name in result.text.replace(" ", "") for name in files) == len(files), "few tiles: all of them"
    about = Image.open(tmp_path / "fbp.png").info["Description"]
    assert "hatched: not labelled" in about
    assert "Rendered" not in about
    write_loveda(tmp_path / "raw", per_side=3)
    where = ("--raw", tmp_path / "raw", "--out", tmp_path / "data")
    assert program("data", "prepare", "loveda_r2u", *where, "--tile", 64, "--workers", 1).exit_code == 0
    result = program("data", "show", "loveda_r2u", "--data", tmp_path / "data", "--out", tmp_path / "loveda.png")
    assert result.exit_code == 0, result
    image = pixels(tmp_path / "loveda.png")
    assert count(image, TASKS["loveda_r2u"].files.palette[5]) > 10_000  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--tiles", 0), ("--tiles 0", "1 to 12")),
        (("--tiles", 13), ("--tiles 13",)),
        (("--out", "sheet.jpg"), ("sheet.jpg", ".png")),
        (("--severity", 2), ("--severity 2",)),
        (("--ingredients", "fog"), ("--ingredients fog", "haze")),
        (("--severity", 0.5, "--data", "DATA"), ("--severity", "synthetic scenes")),
        (("--data", "/nowhere"), ("/nowhere", "does not exist")),
        (("--out", "/proc/sheet.png"), ("/proc/sheet.png", "another place")),
    ],
)
def test_mistakes(program: Program, args: tuple[object, ...], words: tuple[str, ...]) -> None:
    assert_refused(program("data", "show", "loveda_r2u", *args), *words)


def test_commands_that_need_files_say_so(program: Program) -> None:
    assert_refused(program("data", "verify", "loveda_r2u"), "loveda_r2u", "give --data DIR")
    assert_refused(program("data", "stats", "loveda_r2u"), "give --data DIR")
    assert_refused(program("data", "show", "loveda"), "unknown task", "loveda_r2u")


# Which tiles


class Scenes:
    """A reader of one domain: 40 scenes of four tiles, of which one is labelled, in more classes scene by scene."""

    fingerprint = "stub"

    def __init__(self) -> None:
        self.read_tiles: list[TileRef] = []

    def tiles(self, domain: str) -> list[TileRef]:
        names = [(f"s{scene:02d}", f"s{scene:02d}_{tile}") for scene in range(40) for tile in range(4)]
        return [TileRef(domain=domain, scene=scene, name=name) for scene, name in names]

    def read(self, tile: TileRef) -> Sample:
        self.read_tiles.append(tile)
        label = np.full((8, 8), IGNORE, np.uint8)
        if tile.name.endswith("_2"):
            label[:] = np.arange(64).reshape(8, 8) % (1 + int(tile.scene[1:]) % 10)
        return Sample(image=np.zeros((8, 8, 3), np.uint8), label=label)

    def check(self, tiles: Sequence[TileRef], on_tile: Callable[[], None]) -> None:
        raise AssertionError("not needed")


@pytest.mark.parametrize("seed", range(5))
def test_tiles_are_spread_over_scenes_and_labelled(seed: int) -> None:
    reader = Scenes()
    chosen = [tile for tile, _ in choose(reader, "a", 8, seed)]
    assert [int(tile.scene[1:]) // 5 for tile in chosen] == list(range(8)), "one of each eighth"
    assert len(reader.read_tiles) == 64
    for part, tile in enumerate(chosen):
        drawn = [other for other in reader.read_tiles[8 * part : 8 * part + 8] if other.name.endswith("_2")]
        if drawn:
            assert tile == max(drawn, key=lambda other: int(other.scene[1:]) % 10)


def test_few_scenes_give_several_tiles() -> None:
    class Few(Scenes):
        def tiles(self, domain: str) -> list[TileRef]:
            return super().tiles(domain)[:8]

    chosen = [tile for tile, _ in choose(Few(), "a", 6, 0)]
    assert len(set(chosen)) == 6
    assert [tile.scene for tile in chosen] == ["s00"] * 3 + ["s01"] * 3
    assert len(choose(Few(), "a", 12, 0)) == 8, "no more than there are"


# In which colours


@pytest.mark.parametrize(
    ("centres", "bands", "true"),
    [
        ((830, 660, 555, 485), (1, 2, 3), True),
        ((635, 550, 470, 800), (0, 1, 2), True),
        ((765, 635, 560), (0, 1, 2), False),
        (tuple(466 + 15 * i for i in range(32)), (13, 6, 2), True),
        ((560, 665, 833), (2, 1, 0), False),
        ((1650, 2200, 10_800), (2, 1, 0), False),
        ((900, 1100), (1, 0, 0), False),
        ((660,), (0, 0, 0), False),
    ],
)
def test_colours_are_chosen_by_wavelength(centres: tuple[int, ...], bands: tuple[int, ...], true: bool) -> None:
    colours = find_colours(centres)
    assert (colours.bands, colours.true) == (bands, true)


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint8, 1), (np.uint16, 100), (np.float32, 0.004)])
def test_one_stretch_for_every_type(dtype: type[np.generic], factor: float) -> None:
    rng = np.random.default_rng(0)
    images = [(rng.integers(low, low + 100, (50, 50, 3)) * factor).astype(dtype) for low in (20, 60)]
    filled = [np.concatenate([image, np.zeros_like(image)]) for image in images]
    stretch = find_stretch(filled)
    low, high = np.percentile(np.concatenate([image.reshape(-1) for image in images]), (2, 98))
    assert (stretch.low, stretch.high) == pytest.approx((low, high)), "fill takes no part"
    assert stretch == find_stretch(images)
    shown = [stretch(image) for image in filled]
    assert all(picture.min() >= 0 and picture.max() <= 1 for picture in shown)
    assert shown[0].mean() < shown[1].mean(), "one stretch keeps the difference"
    dark = find_stretch([(image.astype(float) ** 3).astype(np.float32) for image in images])
    assert dark.gamma > stretch.gamma >= 1


def test_a_stretch_of_nothing() -> None:
    assert find_stretch([np.zeros((4, 4, 3), np.uint8)])(np.ones((1, 1, 3))).tolist() == [[[1, 1, 1]]]
    assert np.isfinite(find_stretch([np.full((4, 4, 3), 7, np.uint8)])(np.full((1, 1, 3), 7))).all()


# What there is to know


@pytest.mark.parametrize("task", TASKS)
def test_info_tells_all_of_a_task(program: Program, task: str) -> None:
    result = program("data", "info", task)
    assert result.exit_code == 0, result
    found = TASKS[task]
    assert f"{found.title} (version {found.version})" in result.text
    for source in filter(None, (found.files, found.embedded)):
        for name, colour in zip(source.classes, source.palette, strict=True):
            assert f"{name} #{bytes(colour).hex()}" in " ".join(result.text.split())
        for domain in (source.source, *source.targets):
            assert domain in result.text
    for band in found.bands:
        assert f"{band.name} {1000 * band.centre_um:g}" in result.text
    assert "not known here" not in result.text
    if task in RECIPES:
        assert all(choice.name in result.text for choice in load_recipe(task).choices)
        assert f"data prepare {task} --raw" in result.text
        assert found.files
        assert found.files.licence in result.text
        assert found.files.obtain in result.text
    else:
        assert "no recipe" in result.text


def test_info_of_prepared_facts(program: Program) -> None:
    text = program("data", "info", "fbp_cs").text
    assert "NIR 830 ± 60" in text
    assert "31,500" in text
    assert "8 m" in text


@pytest.mark.parametrize("args", [("info", "fbp_cs"), ("show", "oem_cc", "--tiles", 1, "--out")])
def test_neither_needs_torch(tmp_path: Path, args: tuple[object, ...]) -> None:
    more = (tmp_path / "sheet.png",) if args[0] == "show" else ()
    result = run_process("data", *args, *more, code=TELL_IMPORTS)
    assert result.exit_code == 0, result.err
    assert not set(LIGHT) & set(result.err.split())
