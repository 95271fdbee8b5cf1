"""`data audit` by footprints and by hashes: what meets, what may meet, how often chance makes two tiles alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pyproj import Geod

from benchmarks.prepared.manifest import TileRow
from benchmarks.tasks import TileRef
from harness.audit_limits import RADIUS, SURE_RADIUS
from harness.likeness import alike, hashes
from harness.tile_marks import Marks, mark
from tests.audits import Prepared, audited, checks, field, place, prepare
from tests.conftest import Program, assert_refused
from tests.data_files import blobs, colours, write_loveda


@pytest.fixture
def loveda(program: Program, tmp_path: Path) -> Prepared:
    return prepare(program, tmp_path, "loveda_r2u", write_loveda, 64, per_side=3)


# Places


SAYS = {"geotiff": "exact", "rpc": "±0.3 km", "table": "±50 to ±80 km", "name": "a box", "mgrs": "109.8 km"}
"""What a finding says of the accuracy."""


def laid_out(data: Prepared, moved: Callable[[TileRow], TileRow] = lambda row: row) -> None:
    """Every tile at a place of its own, the target 10 degrees east of the source; then some are moved."""
    numbers = {row.tile: number for number, row in enumerate(data.rows)}
    east = {"rural": 8.0, "urban": 18.0}
    data.rewrite(lambda row: moved(place(row, east[row.domain], 50 - 0.01 * numbers[row.tile])))


def test_known_places_verify_that_domains_are_disjoint(loveda: Prepared) -> None:
    laid_out(loveda)
    pair = audited(loveda, 0)["urban"]
    assert pair["outcome"] == "verified disjoint"
    rural, urban = ([row.footprint for row in loveda.of(domain)] for domain in ("rural", "urban"))
    centres = [[(f[0][0] + 0.0005, f[0][1] - 0.0005) for f in side if f] for side in (rural, urban)]
    least = min(Geod(ellps="WGS84").inv(*a, *b)[2] for a in centres[0] for b in centres[1]) / 1000
    assert pair["ground"]["nearest_km"] == pytest.approx(least, abs=0.001)
    assert pair["ground"]["distances"]["100 to 1000 km"] == 12
    assert pair["ground"]["shared_km2"] == 0
    assert pair["unchecked"] == [text for text in pair["unchecked"] if "near duplicates" in text]


def overlapping(first: TileRow, second: TileRow, method: str, shift: float) -> Callable[[TileRow], TileRow]:
    """The second tile moved onto the first, but for a shift to the east in degrees."""
    assert first.footprint is not None
    lon, lat = first.footprint[0]
    return lambda row: place(row, lon + shift, lat, method=method) if row.tile == second.tile else row


@pytest.mark.parametrize(
    ("method", "shift", "exit_code", "found", "outcome"),
    [
        ("geotiff", 0.0005, 1, ["overlapping footprint"], "overlap found"),
        ("geotiff", 0.001, 0, [], "verified disjoint"),
        ("geotiff", 0.000999, 0, [], "verified disjoint"),
        ("rpc", 0.0005, 0, ["overlapping footprint"], "cannot be verified"),
        ("rpc", 0.004, 0, ["close footprint"], "cannot be verified"),
        ("rpc", 0.006, 0, [], "verified disjoint"),
        ("table", 0.0005, 0, ["overlapping footprint"], "cannot be verified"),
        ("name", 0.0005, 0, ["overlapping footprint"], "cannot be verified"),
        ("mgrs", 0.0005, 0, ["overlapping footprint"], "cannot be verified"),
        ("mgrs", 0.5, 0, [], "verified disjoint"),
    ],
)
def test_footprints_that_meet(
    loveda: Prepared, method: str, shift: float, exit_code: int, found: Sequence[str], outcome: str
) -> None:
    laid_out(loveda)
    first, second = loveda.of("rural")[4], loveda.of("urban")[2]
    loveda.rewrite(overlapping(first, second, method, shift))
    pair = audited(loveda, exit_code)["urban"]
    assert (checks(pair), pair["outcome"]) == (found, outcome)
    if not found:
        return
    (finding,) = pair["findings"]
    assert finding["leak"] is (method == "geotiff")
    (example,) = finding["examples"]
    assert (example["first"], example["second"]) == (f"rural/{first.tile}", f"urban/{second.tile}")
    assert SAYS[method] in finding["note"]
    if found == ["overlapping footprint"] and method in ("geotiff", "rpc"):
        lat = first.footprint[0][1] if first.footprint else 0
        area = 111.2 * 0.001 * 111.3 * 0.0005 * np.cos(np.radians(lat))
        assert example["measure"] == pytest.approx(area, rel=0.005)
        assert pair["ground"]["shared_km2"] == example["measure"]
        assert pair["ground"]["shared_fraction"] == pytest.approx(1 / 24, rel=0.01), "half a tile of twelve"
    if method in ("table", "name", "mgrs"):
        assert example["measure"] is None, "a box's area is no shared ground"


@pytest.mark.parametrize("method", ["name", "table"])
@pytest.mark.parametrize("domain", ["rural", "urban"])
def test_boxes_around_named_places_verify_nothing(loveda: Prepared, method: str, domain: str) -> None:
    """Neither between source and target, whose regions have two names, nor between two parts of the source."""
    laid_out(loveda, lambda row: replace(row, region=row.domain, georef=method if row.domain == domain else "geotiff"))
    result = loveda.audit()
    assert result.exit_code == 0, result
    assert "rural - urban: cannot be verified (boxes around named places do not meet" in result.text
    split = "disjoint by construction" if domain == "rural" else "verified disjoint"
    assert loveda.report["source_val"]["outcome"] == split
    first = loveda.of(domain)[0].tile
    loveda.rewrite(lambda row: replace(row, footprint=None, georef="none") if row.tile == first else row)
    assert audited(loveda, 0)["urban"]["outcome"] == "cannot be verified", "one place less is no more certain"


def test_boxes_that_meet_across_the_split_are_a_warning(loveda: Prepared) -> None:
    laid_out(loveda, lambda row: place(row, 8.0, 50.0, 0.5, "table") if row.domain == "rural" else row)
    pair = audited(loveda, 0)["source_val"]
    assert (pair["outcome"], checks(pair)) == ("cannot be verified", ["overlapping footprint"])


def test_footprints_across_the_split_are_a_warning(loveda: Prepared) -> None:
    laid_out(loveda)
    rural = loveda.of("rural")
    held = sorted({row.scene for row in rural})[1]
    first, second = (next(row for row in rural if (row.scene == held) is side) for side in (False, True))
    loveda.rewrite(overlapping(first, second, "geotiff", 0.0))
    result = loveda.audit()
    assert result.exit_code == 0, result
    assert "warning overlapping footprint" in result.text
    assert loveda.report["source_val"]["outcome"] == "overlap found"


def test_a_place_of_unknown_accuracy_is_refused(loveda: Prepared) -> None:
    laid_out(loveda, lambda row: replace(row, georef="guess") if row.domain == "urban" else row)
    assert_refused(loveda.audit(), "'guess'", "geotiff, rpc")


def test_the_same_scene_in_both_domains(loveda: Prepared) -> None:
    scene, moved = loveda.of("rural")[0].scene, loveda.of("urban")[0].scene
    loveda.rewrite(lambda row: replace(row, scene=scene) if row.scene == moved else row)
    pair = audited(loveda, 1)["urban"]
    assert (checks(pair), pair["outcome"]) == (["same scene"], "overlap found")
    assert pair["findings"][0]["tiles"] == 4


# The hashes themselves


def looks(image: npt.NDArray[Any], visible: Sequence[int] = (0, 1, 2)) -> Marks:
    return mark(TileRef(domain="d", scene="s", name="n"), image, visible)


def bits(first: bytes | None, second: bytes | None) -> int:
    assert first is not None
    assert second is not None
    return sum((a ^ b).bit_count() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("bands", "dtype"), [(4, np.uint8), (32, np.uint16), (5, np.float32)])
def test_near_duplicates_in_any_number_of_bands(bands: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    gains = rng.uniform(0.4, 1, bands) * (1 if dtype == np.uint8 else 8)
    grounds = [field(rng, 128, 128)[..., None] * gains + 1 for _ in range(2)]
    noisy = np.maximum(grounds[0] * 0.8 + rng.normal(0, 5, grounds[0].shape) * gains, 1)
    first, twin, other = (looks(image.astype(dtype), (0, 1, bands - 1)) for image in (grounds[0], noisy, grounds[1]))
    assert first.pixels != twin.pixels
    assert bits(first.looks, twin.looks) <= 24
    assert bits(first.looks, other.looks) > 64


def test_false_alarms_on_random_scenes() -> None:
    """Of 44,850 pairs each of textured and of patchy scenes none is within half of the way from 128 bits to 24."""
    rng = np.random.default_rng(0)
    for slope in (2.0, 0.0):
        scenes = [field(rng, 64, 64, slope) if slope else blobs(rng, 64, 64, colours("loveda7"))[0] for _ in range(300)]
        found = [looks(scene if scene.ndim == 3 else scene[..., None], (0,)).looks for scene in scenes]
        words = np.unpackbits(np.frombuffer(b"".join(found), np.uint8).reshape(300, -1), axis=1)
        distance = (words[:, None] != words[None]).sum(-1)[np.triu_indices(300, 1)]
        assert distance.mean() == pytest.approx(128, abs=2)
        assert distance.min() > 76


def test_false_alarms_between_straight_coasts() -> None:
    """The one kind that was seen: within the radius, so that such pairs are perhaps duplicates, but not for certain."""
    rng, px = np.random.default_rng(0), 128
    rows, cols = np.mgrid[:px, :px] - px / 2
    found = []
    for _ in range(700):
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-px / 3, px / 3)
        land = rows * np.cos(angle) + cols * np.sin(angle) > offset
        found.append(looks((np.where(land, 130, 60) + rng.normal(0, 2, (px, px)))[..., None].astype(np.uint8), (0,)))
    words = np.frombuffer(b"".join(mark.looks or b"" for mark in found), np.uint64).reshape(len(found), -1)
    distance = np.bitwise_count(words[:, None] ^ words[None]).sum(-1)[np.triu_indices(len(found), 1)]
    assert SURE_RADIUS < distance.min() <= RADIUS


def test_false_alarms_between_borders() -> None:
    """Of 45,000 pairs of borders crossed by sharp edges, which look alike wherever the edges lie, none is taken."""
    rng = np.random.default_rng(0)
    borders: list[tuple[bytes, bytes]] = []
    for _ in range(300):
        line = np.where(np.arange(256) < rng.integers(40, 216), 60, 130) + rng.normal(0, 2, (2, 256))
        marks = looks(np.stack([line[0]] + [line[1]] * 255)[..., None].astype(np.uint8), (0,))
        top, bottom, *_ = marks.borders
        assert top
        assert bottom
        borders.append((top, bottom))
    found = min(bits(top, bottom) for top, _ in borders for _, bottom in borders)
    assert found > 28


def test_pairs_within_a_radius_are_those_of_a_plain_count() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (1100, 32), np.uint8)
    second = first[rng.permutation(1100)[:70]].copy()
    flips = rng.integers(0, 40, len(second))
    for row, count in zip(second, flips, strict=True):
        wrong = np.zeros(256, np.uint8)
        wrong[rng.permutation(256)[:count]] = 1
        row ^= np.packbits(wrong)
    plain = np.bitwise_count(first[:, None] ^ second[None]).sum(-1) <= 24
    groups = [*[5] * 550, *[-1] * 550], [*[5] * 35, *[-1] * 35]
    plain[:550, :35] = False
    found = alike(
        hashes([row.tobytes() for row in first], groups[0]), hashes([row.tobytes() for row in second], groups[1]), 24, 1
    )
    assert found.pairs == plain.sum() > 20
    assert found.second.tolist() == np.flatnonzero(plain.any(0)).tolist()
    assert len(found.nearest) == 20
    assert all(plain[i, j] for _, i, j in found.nearest)
    assert [b for b, *_ in found.nearest] == sorted(flips[list(np.nonzero(plain)[1])])[:20]
