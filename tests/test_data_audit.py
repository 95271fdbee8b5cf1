"""`data audit`: planted leaks are found, clean data pass, and tables say how the audit of their data stands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from harness.audit_limits import RADIUS, SURE_RADIUS
from harness.audit_status import audit_of
from harness.plan import Request, make_plan
from tests.audits import Image8, Prepared, audited, checks, field, place, prepare
from tests.conftest import TINY, Program, assert_refused, bodies
from tests.data_files import write_isprs, write_loveda
from tests.fbp_files import write_fbp, write_image

TASK = "loveda_r2u"
TRIAL = ("--suite", "all", "--seeds", 1, *TINY[2:], "--method", "frozen", "--backbone", "dinov3", "--task", TASK)


@pytest.fixture
def loveda(program: Program, tmp_path: Path) -> Prepared:
    return prepare(program, tmp_path, TASK, write_loveda, 64, per_side=3)


@pytest.fixture
def isprs(program: Program, tmp_path: Path) -> Prepared:
    return prepare(program, tmp_path, "potsdam2vaihingen", write_isprs, 64)


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
    assert f"leak exact duplicate: 1 pair, 1 tile of the second set (equal pixels): rural/{source.tile} ~ " in (
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


@pytest.mark.parametrize(
    ("change", "sure"), [(noise, False), (darker, True), (gamma, True)], ids=["noise", "darker", "gamma"]
)
def test_near_duplicates_are_found(
    loveda: Prepared, change: Callable[[Image8], npt.NDArray[Any]], *, sure: bool
) -> None:
    source, target = loveda.of("rural")[5], loveda.of("urban")[7]
    loveda.paint(target, changed(loveda.image(source), change))
    result = loveda.audit()
    assert result.exit_code == int(sure), result
    assert f"{'leak' if sure else 'warning'} near duplicate: 1 pair" in result.text
    pair = loveda.report["urban"]
    assert (pair["outcome"], checks(pair)) == ("overlap found" if sure else "cannot be verified", ["near duplicate"])
    (example,) = pair["findings"][0]["examples"]
    assert (example["first"], example["second"]) == (f"rural/{source.tile}", f"urban/{target.tile}")
    measure = int(example["measure"])
    assert (0, SURE_RADIUS)[not sure] <= measure <= (RADIUS, SURE_RADIUS)[sure]
    for radius in {measure, max(measure - 1, 0)}:
        assert loveda.audit("--radius", radius).exit_code == int(sure and radius == measure)
        assert checks(loveda.report["urban"]) == ["near duplicate"] * (radius == measure)


def test_near_duplicates_for_certain_and_perhaps_are_told_apart(loveda: Prepared) -> None:
    source, (target, doubtful) = loveda.of("rural")[5], loveda.of("urban")[7:9]
    loveda.paint(target, changed(loveda.image(source), darker))
    loveda.paint(doubtful, changed(loveda.image(source), noise))
    pair = audited(loveda, 1)["urban"]
    found = [(finding["leak"], finding["pairs"], finding["tiles"]) for finding in pair["findings"]]
    assert found == [(True, 1, 1), (False, 1, 1)]
    examples = [[example["second"] for example in finding["examples"]] for finding in pair["findings"]]
    assert examples == [[f"urban/{target.tile}"], [f"urban/{doubtful.tile}"]]
    assert "differ in 11 to 24 of 256 bits: perhaps duplicates" in pair["findings"][1]["note"]


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
    assert [finding["certain"] for finding in pair["findings"]] == [True, False]
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


# Borders


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
    assert "gf2 - gf1: overlap found (exact duplicate (1 pair))" in result.text
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
        (whole.replace(b'"schema": 2', b'"schema": 1'), "the stored audit is of other data"),
        (whole[:-9], "the stored audit is not understood"),
        (whole.replace(b"cannot be verified", b"fine"), "the stored audit is not understood"),
    ):
        report.write_bytes(broken)
        assert program(*run).exit_code == 0
        assert f"Leakage: not audited: {words} (`data audit`)." in caption(results)


def test_embedded_scenes_are_disjoint_by_construction(smoke_results: Path) -> None:
    assert caption(smoke_results).endswith("Leakage: source and targets disjoint by construction (generated).")
    assert all("audit" not in body["run"] for body in bodies(smoke_results).values())
