"""`data verify` and `data stats` on a prepared LoveDA: planted faults are found, numbers are those of the files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.prepared.manifest import load_manifest
from benchmarks.prepared.reader import open_prepared
from tests.conftest import TINY, Program, assert_refused, bodies, contents
from tests.data_files import png, write_loveda
from tests.fbp_files import write_fbp

TASK = "loveda_r2u"
TRIAL = ("--suite", "all", "--seeds", 1, *TINY[2:], "--method", "frozen", "--backbone", "dinov3", "--task", TASK)
Files = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def files(program: Program, tmp_path: Path) -> Files:
    """LoveDA, prepared below `tmp_path / "data"`."""
    written = write_loveda(tmp_path / "raw", per_side=3)
    where = ("--raw", tmp_path / "raw", "--out", tmp_path / "data")
    assert program("data", "prepare", TASK, *where, "--tile", 64, "--workers", 1).exit_code == 0
    return written


def first(data: Path, suffix: str) -> Path:
    """A file of the first tile."""
    row = load_manifest(data / TASK / "manifest.jsonl").tiles[0]
    return data / TASK / (row.image if suffix == ".tif" else row.label)


def test_a_sound_folder(program: Program, files: Files, tmp_path: Path) -> None:
    before = contents(tmp_path / "data")
    results = [program("data", "verify", TASK, "--data", tmp_path / "data", "--workers", n) for n in (1, 2)]
    for result in results:
        assert result.exit_code == 0, result
        assert "no faults" in result.text
    assert results[0].out == results[1].out
    assert contents(tmp_path / "data") == before
    masks = np.stack([mask for name, (_, mask) in files.items() if "rural" in name])
    labelled = masks[masks > 0]
    (line,) = [line.split() for line in results[0].out.splitlines() if line.strip().startswith("forest")]
    assert line[1] == f"{100 * (labelled == 6).mean():.2f}"
    line = next(line.split() for line in results[0].out.splitlines() if line.strip().startswith("rural"))
    assert line[:5] == ["rural", "12", "3", f"{100 * len(labelled) / masks.size:.1f}", "%"]


def truncated(data: Path) -> tuple[Path, tuple[str, ...]]:
    path = first(data, ".tif")
    path.write_bytes(path.read_bytes()[:-500])
    return path, ("truncated", "checksum", "remove the folder rural/train_rural_0 and run `data prepare` again")


def unknown_class(data: Path) -> tuple[Path, tuple[str, ...]]:
    path = first(data, ".png")
    path.write_bytes(png(np.full((64, 64), 7, np.uint8)))
    return path, ("the value 7", "0 to 6", "checksum")


def lost_label(data: Path) -> tuple[Path, tuple[str, ...]]:
    path = first(data, ".png")
    path.unlink()
    return path, (f"{path} is missing (its image is there); remove the folder rural/train_rural_0 and run `data",)


def lost_both(data: Path) -> tuple[Path, tuple[str, ...]]:
    path = first(data, ".tif")
    path.unlink()
    path.with_suffix(".png").unlink()
    return path, ("is missing (so is its label); remove the folder rural/train_rural_0",)


def altered(data: Path) -> tuple[Path, tuple[str, ...]]:
    path = first(data, ".tif")
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    return path, ("checksum",)


def other_size(data: Path) -> tuple[Path, tuple[str, ...]]:
    path = first(data, ".png")
    path.write_bytes(png(np.full((64, 60), 1, np.uint8)))
    return path, ("(64, 60)", "64 x 64")


def stray(data: Path) -> tuple[Path, tuple[str, ...]]:
    path = first(data, ".tif").with_name("more.tif")
    path.write_bytes(b"")
    return path, ("not in manifest.jsonl",)


@pytest.mark.parametrize(
    "spoil",
    [truncated, unknown_class, lost_label, lost_both, altered, other_size, stray],
    ids=lambda spoil: spoil.__name__,
)
def test_planted_faults(
    program: Program, files: Files, tmp_path: Path, spoil: Callable[[Path], tuple[Path, tuple[str, ...]]]
) -> None:
    path, words = spoil(tmp_path / "data")
    result = program("data", "verify", TASK, "--data", tmp_path / "data", "--workers", 1)
    assert result.exit_code == 1, result
    faults = " ".join(line for line in result.out.splitlines() if line.startswith("fault"))
    for word in (str(path), *words):
        assert word in faults
    assert "unpack" not in faults
    assert "Errno" not in faults
    if "is missing" in faults:
        assert faults.count("fault ") == 1
    assert "Traceback" not in result.out + result.err


def test_a_tile_that_only_its_scene_lists_is_not_to_be_removed(program: Program, files: Files, tmp_path: Path) -> None:
    manifest = tmp_path / "data" / TASK / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    count = len(lines) - 1
    header = lines[0].replace(f'"tiles":{count}'.encode(), f'"tiles":{count - 1}'.encode())
    assert header != lines[0]
    lost = json.loads(lines[-1])
    manifest.write_bytes(b"".join([header, *lines[1:-1]]))
    result = program("data", "verify", TASK, "--data", tmp_path / "data", "--workers", 1)
    assert result.exit_code == 1, result
    for name in (lost["image"], lost["label"]):
        assert f"{manifest.parent / name} is not in manifest.jsonl; its scene lists it" in result.text
    assert "data prepare" in result.text
    assert "remove" not in result.text


def test_what_cannot_be_opened_is_the_users_mistake(program: Program, files: Files, tmp_path: Path) -> None:
    def verify(task: str = TASK, data: str = "data") -> object:
        return program("data", "verify", task, "--data", tmp_path / data, "--workers", 1)

    assert_refused(verify(data="nowhere"), "does not exist", "data prepare")
    assert_refused(verify(task="loveda"), "unknown task", "loveda_r2u")
    assert_refused(verify(data=f"data/{TASK}"), "is a prepared task's own folder", f"--data {tmp_path / 'data'} ")
    manifest = tmp_path / "data" / TASK / "manifest.jsonl"
    whole = manifest.read_bytes()
    lines = whole.splitlines(keepends=True)
    for broken, words in (
        (whole[:-5], ("cut off",)),
        (whole.replace(b'"schema":2', b'"schema":3', 1), ("schema 3", "reads 2", "update the program")),
        (whole.replace(b'"schema":2', b'"schema":1', 1), ("schema 1", "reads 2", "run `data prepare` again")),
        (b"".join(lines[:-1]), (f"lists {len(lines) - 2} tiles", f"says {len(lines) - 1}", "prepared scenes are kept")),
        (b"".join([*lines, lines[1]]), ("listed twice", f"line {len(lines) + 1}")),
        (whole.replace(b'"side":"source"', b'"side":"left"', 3), ("side",)),
        (b"no JSON\n" + whole, ("line 1",)),
        (whole.replace(b'"task":"loveda_r2u"', b'"task":"other"', 1), ("'other'",)),
    ):
        manifest.write_bytes(broken)
        assert_refused(verify(), str(manifest), *words)
    manifest.unlink()
    assert_refused(verify(), "not finished", "goes on where it stopped")
    assert_refused(verify(data=f"data/{TASK}"), "is a prepared task's own folder")


def test_a_folder_of_the_released_code_is_verified_without_checksums(program: Program, tmp_path: Path) -> None:
    files = write_fbp(tmp_path, scenes=2)
    verify = ("data", "verify", "fbp_cs", "--data", tmp_path, "--workers", 1)
    result = program(*verify)
    assert result.exit_code == 0, result
    assert "no manifest: checksums could not be compared" in result.text
    path = next(iter(files.values())).image_path
    path.write_bytes(path.read_bytes()[:-100])
    result = program(*verify)
    assert result.exit_code == 1
    assert f"fault {path} is truncated" in result.text
    result = program("data", "stats", "fbp_cs", "--data", tmp_path, "--workers", 1)
    assert_refused(result, str(path), "data verify fbp_cs")


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_lost_partner_in_such_a_folder_is_a_fault(program: Program, tmp_path: Path, kind: str, workers: int) -> None:
    files = write_fbp(tmp_path, scenes=2)
    tile = next(iter(files.values()))
    lost, left, lacks = tile.image_path, tile.label_path, "an image"
    if kind == "label":
        lost, left, lacks = left, lost, "a label"
    lost.unlink()
    result = program("data", "verify", "fbp_cs", "--data", tmp_path, "--workers", workers)
    assert result.exit_code == 1, result
    assert f"fault {left} lacks {lacks}; add or remove" in result.out
    assert "1 fault" in result.out
    stats = program("data", "stats", "fbp_cs", "--data", tmp_path, "--workers", 1)
    assert_refused(stats, f"{left.parent}: {left.parent.name}s without {lacks}")


def test_a_domain_that_lost_all_partners_is_a_fault_beside_them(program: Program, tmp_path: Path) -> None:
    files = write_fbp(tmp_path, scenes=2)
    lost = [tile.label_path for name, tile in files.items() if name.startswith("crop_GF1_")]
    for path in lost:
        path.unlink()
    verify = ("data", "verify", "fbp_cs", "--data", tmp_path, "--workers", 1)
    result = program(*verify)
    assert result.exit_code == 1, result
    assert "fault no tile of domain 'gf1'" in result.out
    assert f"{len(lost) + 1} faults" in result.out
    for tile in files.values():
        if tile.label_path.exists():
            tile.label_path.rename(tile.label_path.with_name(f"{tile.label_path.stem}_24label.png"))
    result = program(*verify)
    assert_refused(result, "without a label")


# Statistics


def pixels(files: Files, side: str, value: int | None = None) -> np.ndarray:
    """Valid pixels [n, 3] of a side as they were written; of one raw label value, if given."""
    chosen = []
    for name, (image, mask) in files.items():
        if side in name:
            keep = image.any(-1) & ((mask == value) if value else True)
            chosen.append(image[keep])
    return np.concatenate(chosen).astype(np.float64)


def test_statistics_are_those_of_the_official_files(program: Program, files: Files, tmp_path: Path) -> None:
    path = tmp_path / "data" / TASK / "statistics.json"
    written = []
    for workers in (1, 2):
        result = program("data", "stats", TASK, "--data", tmp_path / "data", "--workers", workers)
        assert result.exit_code == 0, result
        written.append(path.read_bytes())
    assert written[0] == written[1]
    body = json.loads(written[0])
    rural, urban = pixels(files, "rural"), pixels(files, "urban")
    np.testing.assert_allclose(body["source"]["mean"], rural.mean(0), rtol=1e-12)
    np.testing.assert_allclose(body["source"]["std"], rural.std(0), rtol=1e-12)
    np.testing.assert_allclose(body["domains"]["urban"]["mean"], urban.mean(0), rtol=1e-12)
    assert body["domains"]["urban"]["pixels"] == len(urban)
    shift = body["shift_in_source_std"]["urban"]
    np.testing.assert_allclose(shift["all"], (urban.mean(0) - rural.mean(0)) / rural.std(0), rtol=1e-9)
    forest = pixels(files, "urban", 6).mean(0) - pixels(files, "rural", 6).mean(0)
    np.testing.assert_allclose(shift["classes"]["forest"], forest / rural.std(0), rtol=1e-9)


def test_training_takes_the_stored_statistics(program: Program, files: Files, tmp_path: Path) -> None:
    run = (*TRIAL, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert program(*run).exit_code == 0
    assert program("data", "stats", TASK, "--data", tmp_path / "data").exit_code == 0
    result = program(*run)
    assert "0 cached, 1 to run" in result.text, "other numbers, another key"
    means = [body["result"]["statistics"]["mean"] for body in bodies(tmp_path / "results").values()]
    rural = pixels(files, "rural").mean(0)
    assert sorted(bool(np.allclose(mean, rural, rtol=1e-12)) for mean in means) == [False, True]


def stale(body: bytes) -> bytes:
    return json.dumps(json.loads(body) | {"manifest": "0" * 64}).encode()


def cut(body: bytes) -> bytes:
    return body[:50]


@pytest.mark.parametrize(("spoil", "words"), [(stale, "another manifest"), (cut, "not understood")])
def test_useless_statistics_are_found_before_anything_trains(
    program: Program, files: Files, tmp_path: Path, spoil: Callable[[bytes], bytes], words: str
) -> None:
    assert program("data", "stats", TASK, "--data", tmp_path / "data", "--workers", 1).exit_code == 0
    path = tmp_path / "data" / TASK / "statistics.json"
    path.write_bytes(spoil(path.read_bytes()))
    result = program(*TRIAL, "--data-root", tmp_path / "data", "--results", tmp_path / "results")
    assert_refused(result, str(path), words, "data stats")
    assert not bodies(tmp_path / "results")


def test_statistics_of_another_manifest_are_refused(program: Program, files: Files, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert program("data", "stats", TASK, "--data", data, "--workers", 1).exit_code == 0
    path = data / TASK / "statistics.json"
    body = json.loads(path.read_text())
    for change, words in (
        ({"manifest": "0" * 64}, "another manifest"),
        ({"source": {"mean": [1.0], "std": [1.0]}}, "expected 3 means"),
        ({"source": {}}, "not understood"),
    ):
        path.write_text(json.dumps(body | change))
        with pytest.raises(ValueError, match=words):
            _ = open_prepared(data, TASK).normalisation
    os.unlink(path)
    assert open_prepared(data, TASK).normalisation is None
