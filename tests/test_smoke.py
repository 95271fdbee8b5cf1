"""The smoke suite at scale test: it runs, is cached, and its tables say what the records say."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.conftest import SMOKE, TINY, Program, Result, bodies, contents, outcomes, run_process, snapshot

TITLES = {"frozen": "Frozen", "lora": "LoRA", "rein": "REIN", "spectralmoe": "SpectralMoE"}
TARGETS = ("planetscope", "gf1", "sentinel2")

TORCH_WANTED = """
import sys
from harness.cli import run
try:
    run()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


@pytest.fixture
def tables(smoke_results: Path) -> dict[str, str]:
    """The written tables, by suffix."""
    return {path.suffix: path.read_text() for path in (smoke_results / "test" / "tables").iterdir()}


def test_it_ends_well_with_four_records(smoke_run: tuple[Path, Result]) -> None:
    results, result = smoke_run
    assert result.exit_code == 0, result
    assert "4 trials of 4 steps each, 0 cached, 4 to run" in result.text
    records = bodies(results)
    assert sorted(body["result"]["inputs"]["method"] for body in records.values()) == sorted(TITLES)
    assert {body["status"] for body in records.values()} == {"done"}
    for key in records:
        assert f"done {key}" in result.text


def test_records_tell_what_was_run_and_by_what(smoke_results: Path) -> None:
    for body in bodies(smoke_results).values():
        result, run = body["result"], body["run"]
        assert [point["step"] for point in result["points"]] == [2, 4]
        assert len(result["classes"]) == 7
        assert set(result["tiles"]["domain"]) == {"source_val", *TARGETS}
        assert result["parameters"]["adapter"] == 0 or result["inputs"]["method"] != "frozen"
        assert run["seconds"] > run["train_seconds"] > 0
        assert run["step_ms_median"] > 0
        assert run["process_peak_memory_mb"] > 0
        assert run["commit"]
        assert not set(run) & set(result), "times and hosts never stand in the part that is compared"


def test_the_table_is_printed_and_written_headed_synthetic(
    smoke_run: tuple[Path, Result], tables: dict[str, str]
) -> None:
    printed = smoke_run[1].text
    assert set(tables) == {".md", ".tex", ".csv"}
    for text in (printed, tables[".md"], tables[".tex"]):
        assert "test (synthetic)" in text
    for title in TITLES.values():
        assert all(title in text for text in (printed, *tables.values()))


def test_again_everything_is_cached_and_nothing_is_written_anew(program: Program, smoke_copy: Path) -> None:
    records = snapshot(smoke_copy / "test" / "records")
    tables = contents(smoke_copy / "test" / "tables")
    result = program(*SMOKE, "--results", smoke_copy)
    assert result.exit_code == 0, result
    assert "4 cached, 0 to run" in result.text
    assert "SpectralMoE" in result.out
    assert snapshot(smoke_copy / "test" / "records") == records
    assert contents(smoke_copy / "test" / "tables") == tables


def test_a_cached_suite_needs_no_torch(smoke_copy: Path) -> None:
    result = run_process(*SMOKE, "--results", smoke_copy, code=TORCH_WANTED)
    assert result.exit_code == 0, result.err
    assert "4 cached, 0 to run" in result.text
    assert result.err == "False\n"


def test_fresh_runs_again_and_gives_the_same_bits(program: Program, smoke_results: Path, smoke_copy: Path) -> None:
    result = program(*SMOKE, "--fresh", "--results", smoke_copy)
    assert result.exit_code == 0, result
    assert "0 cached, 4 to run" in result.text
    assert outcomes(smoke_copy) == outcomes(smoke_results)
    before, after = bodies(smoke_results), bodies(smoke_copy)
    assert all(after[key]["run"]["started"] > before[key]["run"]["finished"] for key in before)
    assert contents(smoke_copy / "test" / "tables") == contents(smoke_results / "test" / "tables")


@pytest.mark.parametrize("columns", ["80", "250"])
def test_tables_come_back_from_records_alone(
    program: Program, smoke_copy: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    before = contents(smoke_copy)
    shutil.rmtree(smoke_copy / "test" / "tables")
    result = program("tables", "--scale", "test", "--results", smoke_copy)
    assert result.exit_code == 0, result
    assert contents(smoke_copy) == before
    assert "test (synthetic)" in result.text
    assert "SpectralMoE" in result.text


def test_a_narrow_table_of_two_backbones_tells_them_apart(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    chosen = ("--method", "frozen", "--backbone", "clip", "--backbone", "dofa", "--seeds", 1)
    result = program(*TINY, *chosen, "--results", tmp_path)
    assert result.exit_code == 0, result
    rows = [line.split()[:2] for line in result.out.splitlines() if "Frozen" in line]
    assert rows == [["CLIP", "Frozen"], ["DOFA", "Frozen"]]


def test_show_prints_scores_times_and_inputs(program: Program, smoke_results: Path) -> None:
    key, body = next(iter(bodies(smoke_results).items()))
    result = program("show", key[:10], "--scale", "test", "--results", smoke_results)
    assert result.exit_code == 0, result
    assert key in result.out
    scores = body["result"]["selections"]["source_val"]["scores"]["target"]
    for value in (scores["miou"], scores["macc"], body["run"]["seconds"], body["result"]["inputs"]["data_fingerprint"]):
        assert str(value) in result.out


def miou(areas_K3: np.ndarray) -> float:
    """Mean IoU in percent over classes that were predicted or labelled."""
    intersection, predicted, labelled = areas_K3.T.astype(float)
    union = predicted + labelled - intersection
    return float(np.mean(100 * intersection[union > 0] / union[union > 0]))


def macc(areas_K3: np.ndarray) -> float:
    """Mean recall in percent over classes that were labelled."""
    intersection, _, labelled = areas_K3.T.astype(float)
    return float(np.mean(100 * intersection[labelled > 0] / labelled[labelled > 0]))


def pooled(results: Path, key: str, body: dict[str, Any], selection: str) -> dict[str, np.ndarray]:
    """Areas summed over the tiles of each domain, and over all targets, at the step a rule chose."""
    step = body["result"]["selections"][selection]["step"]
    areas = load_file(results / "test" / "records" / f"{key}.safetensors")[f"areas/{step}"]
    domains = np.array(body["result"]["tiles"]["domain"])
    by_domain = {domain: areas[domains == domain].sum(0) for domain in ("source_val", *TARGETS)}
    return by_domain | {"target": areas[domains != "source_val"].sum(0)}


def test_csv_numbers_are_those_of_the_arrays(smoke_results: Path, tables: dict[str, str]) -> None:
    rows = {row["method"]: row for row in csv.DictReader(tables[".csv"].splitlines())}
    assert set(rows) == set(TITLES.values())
    for key, body in bodies(smoke_results).items():
        row = rows[TITLES[body["result"]["inputs"]["method"]]]
        chosen = pooled(smoke_results, key, body, "source_val")
        target, oracle = miou(chosen["target"]), miou(pooled(smoke_results, key, body, "oracle")["target"])
        expected = {
            "source_val_miou": miou(chosen["source_val"]),
            **{f"{domain}_miou": miou(chosen[domain]) for domain in TARGETS},
            "target_miou": target,
            "target_macc": macc(chosen["target"]),
            "last_target_miou": miou(pooled(smoke_results, key, body, "last")["target"]),
            "oracle_target_miou": oracle,
            "oracle_gap": oracle - target,
            "adapter_parameters": body["result"]["parameters"]["adapter"],
            "seeds": 1,
        }
        for name, value in expected.items():
            assert float(row[name]) == pytest.approx(value, rel=1e-12, abs=1e-12), name
        assert float(row["target_low"]) <= target <= float(row["target_high"])
        if row["method"] != "Frozen":
            difference = target - float(rows["Frozen"]["target_miou"])
            assert float(row["difference"]) == pytest.approx(difference, rel=1e-12, abs=1e-12)
            assert row["significant"] == "False", "one seed and six scenes are not enough for a mark"


def test_checkpoints_are_chosen_by_their_rules(smoke_results: Path) -> None:
    for body in bodies(smoke_results).values():
        points = body["result"]["points"]
        rules = {
            "last": points[-1],
            "source_val": max(points, key=lambda point: (point["miou"]["source_val"], -point["step"])),
            "oracle": max(points, key=lambda point: (point["miou"]["target"], -point["step"])),
        }
        for rule, point in rules.items():
            selected = body["result"]["selections"][rule]
            assert selected["step"] == point["step"]
            assert selected["scores"]["target"]["miou"] == point["miou"]["target"]


def test_areas_are_the_margins_of_the_confusion_matrices(smoke_results: Path) -> None:
    labelled = []
    for key, body in bodies(smoke_results).items():
        arrays = load_file(smoke_results / "test" / "records" / f"{key}.safetensors")
        step = body["result"]["selections"]["last"]["step"]
        for domain, areas in pooled(smoke_results, key, body, "last").items():
            if domain != "target":
                confusion = arrays[f"confusion/{step}/{domain}"]
                margins = [confusion.diagonal(), confusion.sum(0), confusion.sum(1)]
                np.testing.assert_array_equal(areas, np.stack(margins, axis=-1))
        labelled.append(arrays[f"areas/{step}"][..., 2].tolist())
    assert all(counts == labelled[0] for counts in labelled), "every method is judged on the same pixels"
