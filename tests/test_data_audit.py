"""`data audit`: planted leaks are found, clean data pass, and tables say how the audit of their data stands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from pyproj import Geod

from benchmarks.prepared.manifest import Manifest, TileRow, load_manifest
from benchmarks.tasks import TileRef
from harness.audit_status import audit_of
from harness.likeness import alike, hashes
from harness.plan import Request, make_plan
from harness.tile_marks import Marks, mark
from tests.conftest import TINY, Program, Result, assert_refused, bodies
from tests.data_files import blobs, colours, write_isprs, write_loveda
from tests.fbp_files import write_fbp, write_image

TASK = "loveda_r2u"
TRIAL = ("--suite", "all", "--seeds", 1, *TINY[2:], "--method", "frozen", "--backbone", "dinov3", "--task", TASK)
Image8 = npt.NDArray[np.uint8]


class Prepared:
    """A prepared task that can be spoilt and audited."""

    def __init__(self, program: Program, root: Path, task: str) -> None:
        self.program, self.root, self.task = program, root, task
        self.path = root / task / "manifest.jsonl"

    @property
    def rows(self) -> tuple[TileRow, ...]:
        return load_manifest(self.path).tiles

    def of(self, domain: str) -> list[TileRow]:
        """The tiles of a domain."""
        return [row for row in self.rows if row.domain == domain]

    def image(self, row: TileRow) -> Image8:
        return np.asarray(tifffile.imread(self.root / self.task / row.image))

    def paint(self, row: TileRow, image: npt.NDArray[Any], **options: Any) -> None:
        """Put other pixels into a tile's file."""
        tifffile.imwrite(
            self.root / self.task / row.image,
            image,
            photometric="minisblack",
            planarconfig="contig",
            metadata=None,
            **options,
        )

    def rewrite(self, change: Callable[[TileRow], TileRow]) -> None:
        """Put other rows into the manifest."""
        manifest = load_manifest(self.path)
        rows = tuple(change(row) for row in manifest.tiles)
        self.path.write_bytes(Manifest(header=manifest.header, tiles=rows).dump())

    def audit(self, *more: object) -> Result:
        return self.program("data", "audit", self.task, "--data", self.root, "--workers", 1, *more)

    @property
    def report(self) -> dict[str, Any]:
        """The stored report's pairs, by the second set."""
        body = json.loads((self.root / self.task / "audit.json").read_text())
        return {pair["second"]: pair for pair in body["pairs"]}


def prepare(program: Program, root: Path, task: str, write: Callable[..., object], tile: int, **sizes: int) -> Prepared:
    write(root / "raw", **sizes)
    where = ("--raw", root / "raw", "--out", root / "data", "--tile", tile, "--workers", 1)
    assert program("data", "prepare", task, *where).exit_code == 0
    return Prepared(program, root / "data", task)


@pytest.fixture
def loveda(program: Program, tmp_path: Path) -> Prepared:
    return prepare(program, tmp_path, TASK, write_loveda, 64, per_side=3)


@pytest.fixture
def isprs(program: Program, tmp_path: Path) -> Prepared:
    return prepare(program, tmp_path, "potsdam2vaihingen", write_isprs, 64)


def checks(pair: dict[str, Any]) -> list[str]:
    return [finding["check"] for finding in pair["findings"]]


# Clean data


def test_clean_data(loveda: Prepared, tmp_path: Path) -> None:
    stored = []
    for workers in (1, 2):
        result = loveda.audit("--workers", workers)
        assert result.exit_code == 0, result
        assert "no leak found" in result.text
        assert "12 of 12 of rural, 12 of 12 of urban" in result.text, "says what could not be checked"
        stored.append((loveda.root / TASK / "audit.json").read_bytes())
    assert stored[0] == stored[1]
    assert str(tmp_path).encode() not in stored[0]
    body = json.loads(stored[0])
    assert body["data"] == hashlib.sha256(loveda.path.read_bytes()).hexdigest()
    assert loveda.report["urban"]["outcome"] == "cannot be verified"
    assert loveda.report["source_val"]["outcome"] == "disjoint by construction"
    assert not any(pair["findings"] for pair in body["pairs"])


def test_different_cities_are_disjoint_by_construction(isprs: Prepared) -> None:
    result = isprs.audit()
    assert result.exit_code == 0, result
    assert "potsdam - vaihingen: disjoint by construction (no region in common)" in result.text
    assert isprs.report["source_val"]["outcome"] == "verified disjoint"


# Likeness


def test_a_tile_in_both_domains_is_found_in_a_file_of_other_bytes(loveda: Prepared) -> None:
    source, target = loveda.of("rural")[0], loveda.of("urban")[3]
    loveda.paint(target, loveda.image(source), compression="zlib")
    result = loveda.audit()
    assert result.exit_code == 1, result
    assert f"leak exact duplicate: 1 pairs, 1 tiles of the second set (equal pixels): rural/{source.tile} ~ " in (
        result.text
    )
    assert f"~ urban/{target.tile}" in result.text
    pair = loveda.report["urban"]
    assert (pair["outcome"], checks(pair)) == ("overlap found", ["exact duplicate"])


def noise(image: Image8) -> npt.NDArray[Any]:
    return image + np.random.default_rng(1).normal(0, 10, image.shape)


def darker(image: Image8) -> npt.NDArray[Any]:
    return image * 0.6 + 20


def gamma(image: Image8) -> npt.NDArray[Any]:
    return np.asarray(255 * (image / 255) ** 0.7)


def changed(image: Image8, change: Callable[[Image8], npt.NDArray[Any]]) -> Image8:
    """The valid pixels changed, fill left as it is."""
    return np.where(image.any(-1, keepdims=True), np.clip(change(image), 1, 254), 0).astype(np.uint8)


@pytest.mark.parametrize("change", [noise, darker, gamma], ids=lambda change: change.__name__)
def test_near_duplicates_are_found(loveda: Prepared, change: Callable[[Image8], npt.NDArray[Any]]) -> None:
    source, target = loveda.of("rural")[5], loveda.of("urban")[7]
    loveda.paint(target, changed(loveda.image(source), change))
    result = loveda.audit()
    assert result.exit_code == 1, result
    pair = loveda.report["urban"]
    assert (pair["outcome"], checks(pair)) == ("overlap found", ["near duplicate"])
    (example,) = pair["findings"][0]["examples"]
    assert (example["first"], example["second"]) == (f"rural/{source.tile}", f"urban/{target.tile}")
    assert 0 <= example["measure"] <= 24
    assert loveda.audit("--radius", int(example["measure"])).exit_code == 1
    if example["measure"]:
        assert loveda.audit("--radius", int(example["measure"]) - 1).exit_code == 0


def test_likeness_across_the_sources_split_is_a_warning(loveda: Prepared) -> None:
    split = {mark["scene"] for mark in map(vars, loveda.of("rural"))}
    held = sorted(split)[1]
    tiles = [[row for row in loveda.of("rural") if (row.scene == held) is side] for side in (False, True)]
    loveda.paint(tiles[1][0], loveda.image(tiles[0][0]))
    loveda.paint(tiles[1][2], changed(loveda.image(tiles[0][6]), noise))
    result = loveda.audit()
    assert result.exit_code == 0, "the targets' scores are sound"
    assert "warning exact duplicate" in result.text
    pair = loveda.report["source_val"]
    assert (pair["outcome"], checks(pair)) == ("overlap found", ["exact duplicate", "near duplicate"])
    assert loveda.report["urban"]["outcome"] == "cannot be verified"


def test_tiles_without_content_are_counted_and_no_duplicates(loveda: Prepared) -> None:
    loveda.audit()
    before = json.loads((loveda.root / TASK / "audit.json").read_text())["plain"]
    rng = np.random.default_rng(0)
    for domain in ("rural", "urban"):
        tiles = loveda.of(domain)
        loveda.paint(tiles[0], np.zeros((64, 64, 3), np.uint8))
        loveda.paint(tiles[1], np.full((64, 64, 3), 90, np.uint8))
        loveda.paint(tiles[2], rng.integers(99, 102, (64, 64, 3)).astype(np.uint8))
        corner = np.zeros((64, 64, 3), np.uint8)
        corner[:20] = rng.integers(1, 200, (20, 64, 3))
        loveda.paint(tiles[3], corner)
    plain = [row for domain in ("rural", "urban") for row in loveda.of(domain)[:4] if row.valid_fraction < 0.5]
    assert not plain, "none of those painted over was counted before"
    result = loveda.audit()
    assert result.exit_code == 0, result
    body = json.loads((loveda.root / TASK / "audit.json").read_text())
    assert body["plain"] == {domain: before[domain] + 4 for domain in ("rural", "urban")}
    assert "mostly of fill or nearly constant" in result.text
    # what little there is of a tile still shows that it is the same
    loveda.paint(loveda.of("urban")[3], loveda.image(loveda.of("rural")[3]))
    assert checks(audited(loveda, 1)["urban"]) == ["exact duplicate"]


def audited(data: Prepared, exit_code: int) -> dict[str, Any]:
    result = data.audit()
    assert result.exit_code == exit_code, result
    return data.report


# Borders


def field(rng: np.random.Generator, height: int, width: int, slope: float = 2.5) -> Image8:
    """Random ground of natural texture: amplitude falls with frequency to the power of `slope` / 2."""
    rows, cols = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(rows, cols)
    frequency[0, 0] = 1
    wave = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) * frequency ** (-slope / 2), s=(height, width))
    return np.clip(128 + 40 * wave / wave.std(), 1, 254).astype(np.uint8)


def test_adjacent_tiles_without_coordinates(program: Program, tmp_path: Path) -> None:
    loveda = prepare(program, tmp_path, TASK, write_loveda, 256, per_side=2, px=256)
    rng = np.random.default_rng(3)
    ground = np.repeat(field(rng, 512, 1024, 3.0)[:256, :512, None], 3, 2)  # a part, for the whole is periodic
    source, target = loveda.of("rural")[0], loveda.of("urban")[1]
    for left, right, found in (
        (ground[:, :256], ground[:, 256:], ["border"]),
        (ground[:, 256:], ground[:, :256], ["border"]),
        (ground[:, :256], ground[:, 256:][::-1], []),
    ):
        loveda.paint(source, left)
        loveda.paint(target, right)
        pair = audited(loveda, 0)["urban"]
        assert checks(pair) == found
        assert pair["outcome"] == "cannot be verified"
        for finding in pair["findings"]:
            assert not finding["leak"]
            assert finding["examples"][0]["second"] == f"urban/{target.tile}"
    loveda.paint(target, ground[:, 256:])
    loveda.paint(source, ground[:, :256])
    lon = {source.tile: 8.0, target.tile: 9.0}
    for placed, found in (({source.tile}, ["border"]), ({source.tile, target.tile}, [])):
        loveda.rewrite(lambda row, placed=placed: place(row, lon[row.tile], 50.0) if row.tile in placed else row)
        assert checks(audited(loveda, 0)["urban"]) == found, "coordinates of both say more than borders"


# Places


def place(row: TileRow, lon: float, lat: float, side: float = 0.001, method: str = "geotiff") -> TileRow:
    """The row with a square footprint, by its upper left corner and its side in degrees."""
    corners = ((lon, lat), (lon + side, lat), (lon + side, lat - side), (lon, lat - side))
    return replace(row, footprint=corners, georef=method)


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
    assert {"geotiff": "exact", "rpc": "±0.3 km", "table": "±50 km"}[method] in finding["note"]
    if found == ["overlapping footprint"] and method != "table":
        lat = first.footprint[0][1] if first.footprint else 0
        area = 111.2 * 0.001 * 111.3 * 0.0005 * np.cos(np.radians(lat))
        assert example["measure"] == pytest.approx(area, rel=0.005)
        assert pair["ground"]["shared_km2"] == example["measure"]
        assert pair["ground"]["shared_fraction"] == pytest.approx(1 / 24, rel=0.01), "half a tile of twelve"
    if method == "table":
        assert example["measure"] is None, "a box's area is no shared ground"


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


# Mistakes and folders without a manifest


def test_mistakes(loveda: Prepared, program: Program) -> None:
    assert_refused(loveda.audit("--radius", 65), "--radius 65", "0 to 64")
    assert_refused(program("data", "audit", "loveda", "--data", loveda.root), "unknown task", TASK)
    assert_refused(program("data", "audit", TASK, "--data", loveda.root / "no"), "does not exist")
    path = loveda.root / TASK / loveda.of("rural")[0].image
    path.write_bytes(path.read_bytes()[:-500])
    assert_refused(loveda.audit(), str(path), "data verify")
    assert not (loveda.root / TASK / "audit.json").exists()


def test_a_folder_of_the_released_code(program: Program, tmp_path: Path) -> None:
    files = write_fbp(tmp_path, scenes=2)
    audit = ("data", "audit", "fbp_cs", "--data", tmp_path, "--workers", 1)
    result = program(*audit)
    assert result.exit_code == 0, result
    assert "8 of 8" not in result.text
    assert "4 of 4 of gf2, 4 of 4 of planetscope" in result.text
    request = Request(suite="smoke", scale="test", tasks=["fbp_cs"], methods=["frozen"], data_root=tmp_path)
    trial = make_plan(request, None).pending[0]
    assert audit_of(trial, trial.open_reader())["audit"]["outcomes"]["gf1"] == "cannot be verified"
    body = json.loads((tmp_path / "fbp_cs.audit.json").read_text())
    assert [pair["second"] for pair in body["pairs"]] == ["planetscope", "gf1", "sentinel2", "source_val"]
    source, target = (next(t for name, t in files.items() if name.startswith(start)) for start in ("GF2", "crop_GF1"))
    write_image(target.image_path, source.image, compression="zlib")
    assert audit_of(trial, trial.open_reader()) == {"audit": {"state": "out of date"}}
    result = program(*audit)
    assert result.exit_code == 1, result
    assert "gf2 - gf1: overlap found (exact duplicate (1 pairs))" in result.text
    assert "gf2 - sentinel2: cannot be verified" in result.text
    assert program("data", "verify", "fbp_cs", "--data", tmp_path, "--workers", 1).exit_code == 0


# Records and tables


def caption(results: Path) -> str:
    (table,) = (results / "test" / "tables").glob("*.md")
    return table.read_text().splitlines()[-1]


def test_tables_cite_the_audit(program: Program, loveda: Prepared, tmp_path: Path) -> None:
    results = tmp_path / "results"
    run = (*TRIAL, "--data-root", loveda.root, "--results", results)
    assert program(*run).exit_code == 0
    (before,) = bodies(results).values()
    assert before["run"]["audit"] == {"state": "not audited"}
    assert "Leakage: not audited (`data audit`)." in caption(results)

    assert loveda.audit().exit_code == 0
    assert "1 cached, 0 to run" in program(*run).text, "an audit changes no number"
    (after,) = bodies(results).values()
    assert {**before, "run": after["run"]} == after
    said = "Leakage: urban cannot be verified; source validation disjoint by construction (`data audit`)."
    assert said in caption(results)
    assert program("tables", "--scale", "test", "--results", results).exit_code == 0
    assert said in caption(results)
    assert program(*run, "--fresh").exit_code == 0
    (fresh,) = bodies(results).values()
    assert fresh["run"]["audit"] == after["run"]["audit"]
    assert fresh["result"] == before["result"]

    report = loveda.root / TASK / "audit.json"
    whole = report.read_bytes()
    for broken, words in (
        (whole.replace(b'"data": "', b'"data": "0'), "the stored audit is of other data"),
        (whole.replace(b'"schema": 1', b'"schema": 2'), "the stored audit is of other data"),
        (whole[:-9], "the stored audit is not understood"),
        (whole.replace(b"cannot be verified", b"fine"), "the stored audit is not understood"),
    ):
        report.write_bytes(broken)
        assert program(*run).exit_code == 0
        assert f"Leakage: not audited: {words} (`data audit`)." in caption(results)


def test_embedded_scenes_are_disjoint_by_construction(smoke_results: Path) -> None:
    assert caption(smoke_results).endswith("Leakage: source and targets disjoint by construction (generated).")
    assert all("audit" not in body["run"] for body in bodies(smoke_results).values())


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
