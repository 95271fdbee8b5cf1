"""`bench data`: what is prepared and fed there is what `data prepare` and training would make of the same files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.catalogue import TASKS
from benchmarks.prepared.statistics import valid_pixels
from harness.bench_setup import BANDS
from harness.pipeline import train_batches
from harness.scales import SCALES
from tests.conftest import Program, assert_refused
from tests.data_files import write_fbp_official, write_loveda
from tests.fbp_files import write_boundaries, write_fbp_cr

QUICK = ("bench", "data", "--repeats", 2, "--json")


def test_files_made_on_the_spot(program: Program) -> None:
    result = program(*QUICK, "--bands", 32)
    assert result.exit_code == 0, result
    body = json.loads(result.out)
    assert (body["task"], body["repeats"]) == ("fbp_cs", 2)
    speeds = {(speed["what"], speed["bands"]): speed for speed in body["speeds"]}
    assert list(speeds) == [("prepare", 4), ("reader", 4), ("pipeline", 4), ("reader", 32), ("pipeline", 32)]
    assert speeds["prepare", 4]["tiles"] == 2 * 16 + 4
    image, tile = 2 * 2156 * 2148 * 4 + 1024**2 * 4, 512**2 * 4
    assert 1 < speeds["prepare", 4]["megabytes"] * 1e6 / (image + 36 * tile) < 1.03, "labels are small"
    assert speeds["pipeline", 4]["tiles"] == 64
    assert speeds["pipeline", 32]["megabytes"] * 1e6 > 16 * 512**2 * 32 * 2
    for speed in speeds.values():
        assert speed["ratio_low"] <= speed["ratio"] <= speed["ratio_high"]
        assert min(value for value in speed.values() if not isinstance(value, str)) > 0
    recipes = {bands: speeds["pipeline", bands]["recipe"] for bands in (4, 32)}
    assert recipes == {4: "resize by 0.6 to 1.2, crop, flip, jitter", 32: "crop, flip"}, "each task's own"
    assert speeds["pipeline", 4]["ratio"] > speeds["reader", 4]["ratio"] > 1


def test_files_of_the_user(program: Program, tmp_path: Path) -> None:
    write_fbp_official(tmp_path / "raw")
    fbp = (*QUICK, "--raw", tmp_path / "raw", "--choose", "scene_size=any")
    for scenes, tiles in ((1, 4), (2, 8)):
        result = program(*fbp, "--scenes", scenes)
        assert result.exit_code == 0, result
        speeds = json.loads(result.out)["speeds"]
        assert [speed["tiles"] for speed in speeds] == [tiles, 8, 8], "of one gf2 scene and each target; a batch"
    write_loveda(tmp_path / "loveda")
    result = program("bench", "data", "loveda_r2u", "--repeats", 2, "--raw", tmp_path / "loveda", "--scenes", 1)
    assert result.exit_code == 0, result
    assert "loveda_r2u, tiles of 512 px, one core, medians of 2 repeats" in result.text
    (line,) = [line.split() for line in result.out.splitlines() if line.split()[:1] == ["prepare"]]
    assert line[1:3] == ["3", "2"]
    assert "pipeline, 3 bands, as at scale paper: reader, resize by 0.5 to 2, crop, flip, jitter, pack" in result.text


@pytest.mark.parametrize("task", ["loveda_r2u", "fbp_cs", "whu_ohs_cr"])
def test_what_is_measured_is_what_the_task_trains_by(
    program: Program, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    measured = {}

    def spy(*args: Any, **kwargs: Any) -> Any:
        measured[args[1].name] = args[5]
        return train_batches(*args, **kwargs)

    monkeypatch.setattr("harness.bench_data.train_batches", spy)
    bands = [number for number, (name, _) in BANDS.items() if name == task]
    assert program(*QUICK, "--bands", *bands).exit_code == 0
    assert measured[task] == SCALES["paper"].protocol_of(TASKS[task])


def test_a_task_that_needs_boundaries(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its camera files are read in the plain reading too."""
    read: list[str] = []
    monkeypatch.setattr("harness.bench_data._read", lambda file: read.append(file.where))
    write_fbp_cr(tmp_path / "raw")
    given = ("--raw", tmp_path / "raw", "--choose", "scene_size=any", "--choose", "yichun=both", "--scenes", 1)
    bench = ("bench", "data", "fbp_cr", "--repeats", 2, *given, "--json")
    assert_refused(program(*bench), "fbp_cr needs --boundaries FILE")
    result = program(*bench, "--boundaries", write_boundaries(tmp_path / "adm2.geojson"))
    assert result.exit_code == 0, result
    assert json.loads(result.out)["speeds"][0]["tiles"] == 2
    assert Counter(where.rpartition(".")[2] for where in read) == {"tif": 4, "png": 4, "rpb": 4}, "two scenes, twice"


def test_what_cannot_be_measured_is_the_users_mistake(program: Program, tmp_path: Path) -> None:
    assert_refused(program("bench", "data", "loveda_r2u"), "loveda_r2u", "--raw DIR", "fbp_cs")
    assert_refused(program("bench", "data", "fbp"), "unknown task", "fbp_cs")
    assert_refused(program("bench", "data", "--bands", 5), "'5'", "32")
    assert_refused(program("bench", "data", "--repeats", 1), "--repeats 1", "at least 2")
    assert_refused(program("bench", "data", "--scenes", 0), "--scenes 0", "at least 1")
    assert_refused(program("bench", "data", "--raw", tmp_path / "none"), str(tmp_path / "none"))
    assert_refused(program("bench", "data", "--choose", "edge=cut"), "edge", "pad, shift, drop")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 4, 5, 8, 32])
def test_valid_pixels_are_not_zero_in_every_band(dtype: str, bands: int) -> None:
    rng = np.random.default_rng(bands)
    image = rng.integers(0, 300, (13, 11, bands)).astype(dtype)
    image[rng.random(image.shape) < 0.8] = 0
    image[3, 4], image[3, 4, -1], image[5, 6] = 0, 1, 0
    if dtype == "float32":
        image[5, 6] = -0.0
    for view in (image, image[:, ::-1], image[2:9, 3:7], np.moveaxis(np.moveaxis(image, -1, 0).copy(), 0, -1)):
        np.testing.assert_array_equal(valid_pixels(view), view.any(-1))
