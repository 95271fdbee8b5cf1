"""The rows of a table and what they hold, from records."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from harness.evidence import baseline_of, rows_of
from harness.metrics import scores
from harness.plan import Request, make_plan
from harness.statistics import estimates, holm
from tests.conftest import Program
from tests.simulated import simulated_record, write_results


def test_rows_and_their_baseline() -> None:
    plan = make_plan(Request(suite="smoke", scale="test", methods=["lora", "frozen"], seeds=2), None)
    rng = np.random.default_rng(16)
    made = [
        simulated_record(planned.trial, rng.integers(1, 9, (6, len(planned.trial.data.classes), 3)))
        for planned in reversed(plan.trials)
    ]
    rows = rows_of(made)
    assert [each.name for each in rows] == ["frozen@dinov3", "lora@dinov3"]
    assert [each.seeds for each in rows] == [(0, 1), (0, 1)]
    assert baseline_of(rows[1], rows) is rows[0]
    assert baseline_of(rows[0], rows) is None
    assert rows[0].target_domains == ("planetscope", "gf1", "sentinel2")
    for each in rows:
        pooled = [scores(of_seed.sum(0)) for of_seed in each.areas]
        assert each.mean() == pytest.approx(np.mean([s.miou for s in pooled]))
        assert each.mean(score="macc") == pytest.approx(np.mean([s.macc for s in pooled]))
        assert each.mean(selection="last") != each.mean()
    assert sorted(rows[0].scenes) == list(rows[0].scenes)
    assert all(b >= a for a, b in pairwise(rows[0].domains))
    last = rows_of(made, "last")
    assert last[0].mean() == rows[0].mean(selection="last")
    (value,) = estimates(last[0].areas, last[0].domains)
    assert value.mean == pytest.approx(last[0].mean())


def test_stars_of_a_table_are_corrected_for_its_rows(program: Program, tmp_path: Path) -> None:
    write_results(tmp_path, {"frozen": 0.0, "lora": 0.25, "rein": 0.0, "vpt": 0.05})
    write_results(tmp_path, {"fada": 2.0}, seeds=1)
    assert program("tables", "--scale", "test", "--results", tmp_path).exit_code == 0
    table = tmp_path / "test" / "tables" / "fbp_cs-synthetic.csv"
    rows = {row["method"]: row for row in csv.DictReader(table.read_text().splitlines())}
    family = [title for title, row in rows.items() if title != "Frozen" and row["seeds"] == "3"]
    assert len(family) == 3
    corrected = holm([float(rows[title]["p"]) for title in family])
    assert [float(rows[title]["p_holm"]) for title in family] == pytest.approx(corrected)
    assert [rows[title]["significant"] for title in family] == [str(p < 0.05) for p in corrected]
    assert rows["LoRA"]["significant"] == "True"
    assert 0 < float(rows["FADA"]["p"]) < 0.05
    assert rows["FADA"]["p_holm"] == "", "one seed: no star, and none of the others' taken"
    assert rows["FADA"]["significant"] == "False"
    text = table.with_suffix(".md").read_text()
    assert text.count("]*") == 1
    assert "Holm" in text
