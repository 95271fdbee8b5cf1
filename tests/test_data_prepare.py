"""`data prepare` on LoveDA: what comes out, resuming, choices, defects, kills."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from benchmarks.prepared.manifest import load_manifest
from benchmarks.prepared.reader import open_prepared
from tests.conftest import ROOT, TINY, Program, Result, assert_refused, bodies, contents, run_process, snapshot
from tests.data_files import png, write_loveda
from tests.processes import wait_for

TASK = "loveda_r2u"
TRIAL = ("--suite", "all", "--seeds", 1, *TINY[2:], "--method", "frozen", "--backbone", "dinov3", "--task", TASK)


def prepare(program: Program, root: Path, *more: object, workers: int = 1, out: str = "data") -> Result:
    """Prepare `root/raw` into `root/data` in tiles of 64 pixels."""
    where = ("--raw", root / "raw", "--out", root / out)
    return program("data", "prepare", TASK, *where, "--tile", 64, "--workers", workers, *more)


def unpack(raw: Path) -> None:
    """Unpack all archives, as most users do."""
    for archive in list(raw.glob("*.zip")):
        with zipfile.ZipFile(archive) as file:
            file.extractall(raw)
        archive.unlink()


def test_tiles_and_manifest_are_those_of_the_official_files(program: Program, tmp_path: Path) -> None:
    files = write_loveda(tmp_path / "raw")
    result = prepare(program, tmp_path)
    assert result.exit_code == 0, result
    assert "4 scenes, 0 already prepared, 4 to do" in result.text
    assert "rural: prepared 8 tiles of 2 scenes" in result.text
    assert "5464 tiles of 512 px" in result.text
    assert "9425 to 9432" in result.text
    folder = tmp_path / "data" / TASK
    manifest = load_manifest(folder / "manifest.jsonl")
    assert manifest.header.choices == {"source": "text", "edge": "pad"}
    assert [row.side for row in manifest.tiles] == ["source"] * 8 + ["target"] * 8
    for row in manifest.tiles:
        image, mask = files[row.scene]
        box = np.s_[row.window.row : row.window.row + 64, row.window.col : row.window.col + 64]
        np.testing.assert_array_equal(tifffile.imread(folder / row.image), image[box])
        label = np.asarray(Image.open(folder / row.label))
        np.testing.assert_array_equal(label, np.where(mask[box] == 0, 255, mask[box].astype(int) - 1))
        for name, digest in ((row.image, row.image_sha256), (row.label, row.label_sha256)):
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        assert row.histogram == {
            int(k): int((mask[box] == k + 1).sum()) for k in np.unique(mask[box][mask[box] > 0]) - 1
        }
        assert row.valid_fraction == pytest.approx((mask[box] > 0).mean(), abs=1e-6)
        assert row.bands == "R:665 G:560 B:490"


def test_the_manifest_is_a_table(program: Program, tmp_path: Path) -> None:
    write_loveda(tmp_path / "raw")
    prepare(program, tmp_path)
    path = tmp_path / "data" / TASK / "manifest.jsonl"
    frame = load_manifest(path).frame()
    with path.open() as file:
        assert json.loads(file.readline())["schema"] == 2
        read = pd.read_json(file, lines=True)
    assert list(read["tile"]) == list(frame["tile"])
    assert frame["window.row"].tolist() == [0, 0, 64, 64] * 4
    assert frame.groupby("side").size().to_dict() == {"source": 8, "target": 8}


def test_archives_and_unpacked_files_give_the_same_tiles(program: Program, tmp_path: Path) -> None:
    write_loveda(tmp_path / "raw")
    prepare(program, tmp_path)
    shutil.copytree(tmp_path / "raw", tmp_path / "plain" / "raw")
    unpack(tmp_path / "plain" / "raw")
    assert prepare(program, tmp_path / "plain").exit_code == 0
    first, second = (load_manifest(root / "data" / TASK / "manifest.jsonl") for root in (tmp_path, tmp_path / "plain"))
    assert first.tiles == second.tiles


def test_choices_change_the_source_and_are_kept(program: Program, tmp_path: Path) -> None:
    write_loveda(tmp_path / "raw")
    result = prepare(program, tmp_path, "--choose", "source=released")
    assert "rural: prepared 16 tiles of 4 scenes" in result.text
    header = load_manifest(tmp_path / "data" / TASK / "manifest.jsonl").header
    assert header.choices["source"] == "released"
    assert_refused(prepare(program, tmp_path), "other choices", "source=released there", "source=text now", "--out")
    assert_refused(prepare(program, tmp_path, "--choose", "source=all", out="b"), "source is one of text, released")
    assert_refused(prepare(program, tmp_path, "--choose", "split", out="b"), "name=value", "source, edge")
    twice = ("--choose", "source=released", "--choose", "source=text")
    assert_refused(prepare(program, tmp_path, *twice, out="b"), "source=text", "source=released was given too")


def test_a_second_run_touches_nothing_and_an_added_file_is_all_that_is_done(program: Program, tmp_path: Path) -> None:
    write_loveda(tmp_path / "raw")
    unpack(tmp_path / "raw")
    prepare(program, tmp_path)
    before = snapshot(tmp_path / "data")
    assert "4 already prepared, 0 to do" in prepare(program, tmp_path).text
    assert snapshot(tmp_path / "data") == before
    for folder in ("images_png", "masks_png"):
        rural = tmp_path / "raw" / "Train" / "Rural" / folder
        shutil.copy(rural / "0.png", rural / "7.png")
        (rural / "1.png").unlink()
    assert "4 scenes, 3 already prepared, 1 to do" in prepare(program, tmp_path).text
    rows = load_manifest(tmp_path / "data" / TASK / "manifest.jsonl").tiles
    assert {row.scene for row in rows if row.side == "source"} == {"train_rural_0", "train_rural_7"}
    assert not (tmp_path / "data" / TASK / "rural" / "train_rural_1").exists(), "no longer among the official files"


def in_a_line(whole: bytes) -> bytes:
    return whole[:-300]


def at_a_line(whole: bytes) -> bytes:
    return b"".join(whole.splitlines(keepends=True)[:-3])


def in_the_header(whole: bytes) -> bytes:
    return whole[:40]


def nothing_left(whole: bytes) -> bytes:
    return b""


def old_schema(whole: bytes) -> bytes:
    return whole.replace(b'"schema":2', b'"schema":1', 1)


@pytest.mark.parametrize(
    "damage", [in_a_line, at_a_line, in_the_header, nothing_left, old_schema], ids=lambda damage: damage.__name__
)
def test_a_damaged_manifest_is_written_again(
    program: Program, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    write_loveda(tmp_path / "raw")
    prepare(program, tmp_path)
    path = tmp_path / "data" / TASK / "manifest.jsonl"
    before, whole = contents(tmp_path / "data"), path.read_bytes()
    path.write_bytes(damage(whole))
    result = prepare(program, tmp_path)
    assert result.exit_code == 0, result
    assert f"warning: {path} " in result.text
    assert "written again" in result.text
    assert "4 already prepared, 0 to do" in result.text
    assert contents(tmp_path / "data") == before


def test_a_damaged_manifest_still_tells_the_choices(program: Program, tmp_path: Path) -> None:
    write_loveda(tmp_path / "raw")
    prepare(program, tmp_path)
    path = tmp_path / "data" / TASK / "manifest.jsonl"
    path.write_bytes(in_a_line(path.read_bytes()))
    assert_refused(prepare(program, tmp_path, "--choose", "source=released"), "other choices", "source=text there")
    path.write_bytes(path.read_bytes().replace(b'"schema":2', b'"schema":3', 1))
    assert_refused(prepare(program, tmp_path), "schema 3", "update the program")


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("loss", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_scene_that_lost_a_file_is_prepared_again(
    program: Program, tmp_path: Path, suffix: str, loss: Callable[[Path], None]
) -> None:
    write_loveda(tmp_path / "raw")
    prepare(program, tmp_path)
    before = contents(tmp_path / "data")
    loss(sorted((tmp_path / "data").rglob(f"*{suffix}"))[0])
    assert "4 scenes, 3 already prepared, 1 to do" in prepare(program, tmp_path).text
    assert contents(tmp_path / "data") == before


def test_defects_are_named_together_and_the_rest_is_kept(program: Program, tmp_path: Path) -> None:
    write_loveda(tmp_path / "raw")
    unpack(tmp_path / "raw")
    mask = tmp_path / "raw" / "Train" / "Rural" / "masks_png" / "0.png"
    image = tmp_path / "raw" / "Val" / "Urban" / "images_png" / "3514.png"
    whole = mask.read_bytes(), image.read_bytes()
    mask.write_bytes(png(np.full((128, 128), 8, np.uint8)))
    image.write_bytes(whole[1][:-500])
    result = prepare(program, tmp_path)
    assert result.exit_code == 2, result
    for words in (
        "2 of 4 scenes could not be prepared",
        f"{mask} holds the value 8",
        f"{image} is not a PNG",
        "damaged",
    ):
        assert words in result.text
    assert "Traceback" not in result.err
    assert_refused(program("plan", *TRIAL, "--data-root", tmp_path / "data"), "not finished", "data prepare")
    mask.write_bytes(whole[0])
    image.write_bytes(whole[1])
    assert "4 scenes, 2 already prepared, 2 to do" in prepare(program, tmp_path).text


def other_size(image: Path) -> None:
    image.write_bytes(png(np.full((128, 120, 3), 5, np.uint8)))


def grey(image: Path) -> None:
    image.write_bytes(png(np.full((128, 128), 5, np.uint8)))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(Path.unlink, ("no image beside it", "Train.zip")), (other_size, ("120 x 128",)), (grey, ("colour", "Zenodo"))],
    ids=["missing", "size", "grey"],
)
def test_pairs_that_do_not_fit(
    program: Program, tmp_path: Path, spoil: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    write_loveda(tmp_path / "raw")
    unpack(tmp_path / "raw")
    spoil(tmp_path / "raw" / "Train" / "Rural" / "images_png" / "1.png")
    result = prepare(program, tmp_path)
    assert result.exit_code == 2, result
    assert all(word in result.text for word in ("1.png", *words)), result.err


def test_what_is_missing_or_damaged_is_named(program: Program, tmp_path: Path) -> None:
    assert_refused(prepare(program, tmp_path), "--raw", "is no folder")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "Train.tar.gz").write_bytes(b"x")
    assert_refused(prepare(program, tmp_path), "no Train/Rural", "Train.tar.gz (unpack them)", "Zenodo record")
    write_loveda(tmp_path / "raw")
    archive = tmp_path / "raw" / "Val.zip"
    archive.write_bytes(archive.read_bytes()[:-300])
    assert_refused(prepare(program, tmp_path), str(archive), "incomplete archive", "download it again")
    assert_refused(program("data", "prepare", "loveda", "--raw", "a", "--out", "b"), "'loveda'", "loveda_r2u")
    assert not (tmp_path / "data").exists()


def test_room_is_checked_first(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_loveda(tmp_path / "raw")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9, 100_000))
    assert_refused(prepare(program, tmp_path), "needs about", "are free", "--out")
    assert not list((tmp_path / "data").rglob("*.tif"))


def test_a_trial_runs_on_it(program: Program, tmp_path: Path) -> None:
    write_loveda(tmp_path / "raw", per_side=3)
    prepare(program, tmp_path)
    run = (*TRIAL, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    result = program(*run)
    assert result.exit_code == 0, result
    (body,) = bodies(tmp_path / "results").values()
    assert body["result"]["classes"][0] == "background"
    reader = open_prepared(tmp_path / "data", TASK)
    assert body["result"]["inputs"]["data_fingerprint"] == reader.fingerprint
    for tile in (tmp_path / "data" / TASK / "urban").rglob("*.tif"):
        whole = tile.read_bytes()
        tile.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (tmp_path / "results" / "test" / "checked.json").unlink()
    assert_refused(program(*run, "--fresh"), "val_urban_", ".tif has the checksum", "data prepare")


def parts(folder: Path) -> list[Path]:
    """The parts of whole scenes; scratch folders come and go meanwhile."""
    return [part for domain in ("rural", "urban") for part in (folder / domain).glob("*/part.jsonl")]


@pytest.mark.slow
def test_killed_at_any_moment_the_manifest_is_the_same(program: Program, tmp_path: Path) -> None:
    """Two processes, killed with the program at seeded numbers of prepared scenes; then to the end."""
    write_loveda(tmp_path / "raw", per_side=12)
    assert prepare(program, tmp_path, out="whole").exit_code == 0
    folder, chance, before = tmp_path / "data" / TASK, random.Random(5), -1
    command = ["data", "prepare", TASK, "--raw", tmp_path / "raw", "--out", tmp_path / "data", "--tile", 64]
    for moment in (0, 5, 11):
        line = [sys.executable, "run.py", *map(str, command), "--workers", "2"]
        with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_for(process, lambda at=moment: len(parts(folder)) >= at and folder.exists())
            time.sleep(chance.uniform(0, 0.02))
            process.kill()
        assert not (folder / "manifest.jsonl").exists()
        for part in parts(folder):
            assert contents(part.parent) == contents(tmp_path / "whole" / TASK / part.parent.relative_to(folder))
        assert len(parts(folder)) > before or moment == 0
        before = len(parts(folder))
    result = run_process(*command, "--workers", 2)
    assert result.exit_code == 0, result
    lock = {".lock": b""}
    assert contents(folder) | lock == contents(tmp_path / "whole" / TASK) | lock


def test_a_damaged_member_of_an_archive_is_named(program: Program, tmp_path: Path) -> None:
    write_loveda(tmp_path / "raw")
    archive = tmp_path / "raw" / "Train.zip"
    member = "Train/Rural/images_png/0.png"
    with zipfile.ZipFile(archive) as file:
        content = file.read(member)
    whole = archive.read_bytes()
    place = whole.index(content[:200]) + 150 if content[:200] in whole else None
    assert place, "stored as it is"
    archive.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    result = prepare(program, tmp_path)
    assert result.exit_code == 2, result
    assert f"{archive} is damaged at {member} (CRC); download it again" in result.text
