"""Five-Billion-Pixels cross-region: which of the two Yichuns is a target, and names of regions in every spelling."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.datasets.fbp_cr import TARGETS, YICHUN, plain, target_of
from tests.conftest import Program, assert_refused
from tests.fbp_files import SEATS, sites, write_boundaries, write_fbp_cr
from tests.test_data_fbp_cr import manifest, prepare, root

__all__ = ["root"]


@pytest.mark.parametrize(
    ("north", "south", "others", "decided"),
    [(3, 2, 21, "heilongjiang"), (3, 2, 22, "jiangxi"), (3, 2, 19, "both"), (0, 3, 21, "jiangxi"), (3, 0, 21, None)],
)
def test_the_count_of_24_decides(
    program: Program, tmp_path: Path, north: int, south: int, others: int, decided: str | None
) -> None:
    write_fbp_cr(tmp_path / "raw", sites(north, south, others), px=16)
    write_boundaries(tmp_path / "adm2.geojson")
    result = prepare(program, tmp_path)
    assert result.exit_code == 0, result
    assert f"Yichun of the paper: {decided or 'heilongjiang'}, by the count of 24" in result.text
    assert "prepared 24 tiles of 24 scenes" in result.text
    targets = {row.region for row in manifest(tmp_path).tiles if row.side == "target"}
    chosen = set(YICHUN.values()) if decided == "both" else {YICHUN[decided or "heilongjiang"]}
    assert targets & set(YICHUN.values()) == chosen


@pytest.mark.parametrize("others", [5, 24])
def test_without_a_scene_in_either_yichun_it_does_not_matter(program: Program, tmp_path: Path, others: int) -> None:
    write_fbp_cr(tmp_path / "raw", sites(0, 0, others), px=16)
    write_boundaries(tmp_path / "adm2.geojson")
    result = prepare(program, tmp_path)
    assert result.exit_code == 0, result
    assert "Yichun of the paper: no scene lies in either Yichun, so it does not matter" in result.text
    assert "by the count" not in result.text
    assert f"prepared {others} tiles of {others} scenes" in result.text


def test_a_count_that_decides_nothing_is_told(program: Program, root: Path) -> None:
    told = ("heilongjiang 5", "24 target scenes", "yichun=heilongjiang|jiangxi|both")
    assert_refused(prepare(program, root), *told)
    shutil.rmtree(root / "raw")
    write_fbp_cr(root / "raw", sites(2, 2, 22), px=16)
    assert_refused(prepare(program, root), "heilongjiang 24, jiangxi 24, both 26")
    result = prepare(program, root, "--choose", "yichun=jiangxi")
    assert "jiangxi, as chosen" in result.text
    yichuns = {row.region: row.domain for row in manifest(root).tiles if "Yichun" in row.region}
    assert yichuns == {YICHUN["heilongjiang"]: "seen", YICHUN["jiangxi"]: "unseen"}


@pytest.mark.parametrize("name", ["BAODING", "Baoding Shi", "baodingshi", "Baoding City", "Băodìng", "保定市", "保定"])
def test_names_are_matched_in_every_spelling(name: str) -> None:
    assert target_of(name, *TARGETS["Baoding"].seat) == "Baoding"


def test_other_names_and_namesakes_elsewhere_are_no_targets() -> None:
    for name in ("Baodi", "Baodingfu", "", "Shi", "Shijiazhuang"):
        assert target_of(name, *TARGETS["Baoding"].seat) is None
    assert target_of("Wuzhong", *SEATS["wuzhong"]) is None
    assert {region for region, target in TARGETS.items() if plain("Yichun") in target.names} == set(YICHUN.values())
