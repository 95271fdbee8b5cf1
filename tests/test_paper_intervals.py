"""Intervals, averages and differences in a suite's tables: of simulated records, against the statistics."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.evidence import evidence_of
from harness.metrics import mean_accuracy, mean_iou
from harness.plan import Request, make_plan
from harness.records import Record, RecordStore
from harness.statistics import Estimate, differences, estimates, holm, mean_difference, mean_estimate
from harness.trial import Trial
from tests.conftest import Program, contents
from tests.simulated import Population, simulated_record
from tests.test_paper_tables import Row, build, caption, rows_of

RANGE = r"\[[\d.]+, [\d.]+\]"
SIGNED = r"\[[+-][\d.]+, [+-][\d.]+\]"
PAIR = """
name: pair
title: two methods on two tasks
seeds: 3
cells: [{task: [fbp_cs, flair_cr], backbone: dinov3, method: [frozen, rein]}]
table: {rows: method, columns: task, metrics: [miou, macc]}
"""


def simulate(results: Path, gain: Callable[[Trial], float | None], **request: object) -> dict[tuple[str, ...], Record]:
    """Records of the trials that have a gain, on the same 12 scenes in each task; by task, method, queries and seed."""
    store = RecordStore(results / "test" / "records")
    plan = make_plan(Request(**{"scale": "test", "seeds": 3, **request}), None)  # type: ignore[arg-type]
    made: dict[tuple[str, ...], Record] = {}
    for trial in (item.trial for item in plan.trials):
        if (better := gain(trial)) is not None:
            names = trial.data.targets
            world = Population(classes=len(trial.data.classes), domain_names=names, seed_spread=0.03, own_spread=0.1)
            met = world.scenes(np.random.default_rng([3, *trial.task.name.encode()]), world.domains(12))
            words = (trial.task.name, trial.method.name, str(trial.protocol.queries))
            rng = np.random.default_rng([trial.seed, *" ".join(words).encode()])
            record = simulated_record(trial, world.method(rng, met, 1, better)[0])
            store.write(record)
            made[(*words, str(trial.seed))] = record
    return made


def values_of(results: Path, suite: str) -> list[Row]:
    """The lines of a table's CSV."""
    with (results / "test" / "tables" / suite / f"{suite}.csv").open() as file:
        return list(csv.DictReader(file))


def ends(line: Row) -> tuple[float, float]:
    """The interval in a line."""
    return float(line["low"]), float(line["high"])


def bounds(estimate: Estimate | None) -> tuple[float, float]:
    """The interval of an estimate that must be there, as a file keeps it."""
    assert estimate
    return pytest.approx((estimate.low, estimate.high))  # type: ignore[return-value]


def test_scores_and_averages_have_intervals_over_the_seeds_that_all_tasks_have(
    program: Program, tmp_path: Path
) -> None:
    suite, results = tmp_path / "pair.yaml", tmp_path / "results"
    suite.write_text(PAIR)
    lacking = ("flair_cr", "rein", 2)  # a seed that one task has not
    made = simulate(
        results, lambda t: None if (t.task.name, t.method.name, t.seed) == lacking else 0.0, suite=str(suite)
    )
    build(program, results, suite)
    before = contents(results / "test" / "tables" / "pair")
    shown = {row["Method"]: row for row in rows_of(results, "pair")}
    for metric in ("mIoU", "mAcc"):
        assert re.fullmatch(rf"(\*\*)?[\d.]+ {RANGE}(\*\*)?", shown["Frozen"][f"fbp_cs {metric}"])
        assert re.fullmatch(rf"(\*\*)?[\d.]+ {RANGE}(\*\*)?", shown["Frozen"][f"Avg. {metric}"])
        assert re.fullmatch(rf"(\*\*)?[\d.]+ {RANGE} \(n=2\)(\*\*)?", shown["REIN"][f"Avg. {metric}"])
    for words in (
        "over target scenes and seeds; those of an average are about its own columns.",
        "Averages are over the seeds that all their entries have.",
    ):
        assert words in caption(results, "pair")

    lines = {(line["method"], line["column"], line["metric"]): line for line in values_of(results, "pair")}
    for metric, statistic in (("miou", mean_iou), ("macc", mean_accuracy)):
        name = {"miou": "mIoU", "macc": "mAcc"}[metric]
        rows = {
            (task, method): evidence_of([r for k, r in made.items() if k[:2] == (task, method)])
            for task in ("fbp_cs", "flair_cr")
            for method in ("frozen", "rein")
        }
        one = rows["fbp_cs", "rein"]
        entry = lines["REIN", f"fbp_cs {name}", metric]
        assert ends(entry) == bounds(estimates(one.areas, one.domains, statistic)[0])
        for title, method, seeds in (("Frozen", "frozen", 3), ("REIN", "rein", 2)):
            found = mean_estimate([rows["fbp_cs", method], rows["flair_cr", method]], statistic)
            line = lines[title, f"Avg. {name}", metric]
            assert found
            assert float(line["value"]) == pytest.approx(found.mean), "the middle of its interval"
            assert ends(line) == bounds(found)
            assert int(line["n"]) == seeds
    build(program, results, suite)
    assert contents(results / "test" / "tables" / "pair") == before


def test_the_gap_has_its_interval_in_the_csv_alone(program: Program, tmp_path: Path) -> None:
    results = tmp_path / "results"
    made = simulate(results, lambda _: 0.0, suite="table1", backbones=["clip"], methods=["rein"])
    for place, record in made.items():  # the source chooses the worse of two
        chosen = record.result["selections"]
        result = {**record.result, "selections": {**chosen, "source_val": chosen["last"]}}
        made[place] = replace(record, result=result)
        RecordStore(results / "test" / "records").write(made[place])
    build(program, results, "table1")
    (row,) = [row for row in rows_of(results, "table1") if row["Gap"] not in ("incomplete", "–")]
    assert re.fullmatch(r"\+[\d.]+", row["Gap"])
    (line,) = [line for line in values_of(results, "table1") if line["metric"] == "gap" and line["value"]]
    by_task = [[r for k, r in made.items() if k[0] == task] for task in ("fbp_cs", "fbp_cr", "flair_cr")]
    found = mean_difference([(evidence_of(same, "oracle"), evidence_of(same, "source_val")) for same in by_task])
    assert ends(line) == bounds(found)
    assert float(line["value"]) == pytest.approx(sum(ends(line)) / 2)
    assert "p_holm" not in line


def test_differences_are_paired_and_marked_as_a_family(program: Program, tmp_path: Path) -> None:
    """REIN gains much by linking, FADA nothing; SET much, but plain it lacks the third seed."""
    results = tmp_path / "results"

    def gain(trial: Trial) -> float | None:
        linked = trial.protocol.queries == "linked"
        if trial.method.name == "set" and trial.seed == 2 and not linked:
            return None
        return 0.8 if linked and trial.method.name in ("rein", "set") else 0.0

    made = simulate(results, gain, suite="queries", methods=["rein", "set", "fada"], tasks=["fbp_cs", "flair_cr"])
    build(program, results, "queries", "--selection", "all")
    shown = {(row["Method"], row["Checkpoint"]): row for row in rows_of(results, "queries")}
    star = rf"\+[\d.]+ {SIGNED}"
    for rule in ("source_val", "last"):
        assert re.fullmatch(rf"{star}\*", shown["REIN", rule]["Cross-sensor Δ"])
        assert re.fullmatch(rf"{star} \(n=2\)", shown["SET", rule]["Cross-sensor Δ"])
        assert re.fullmatch(rf"[+-][\d.]+ {SIGNED}", shown["FADA", rule]["Cross-sensor Δ"])
    assert shown["REIN", "last"]["Cross-regional Δ"] == "incomplete"
    assert "* marks p < 0.05, corrected by Holm's method for all differences of the table" in caption(
        results, "queries"
    )
    latex = (results / "test" / "tables" / "queries" / "queries.tex").read_text()
    assert re.search(r"& \+[\d.]+ \[\+[\d.]+, \+[\d.]+\]\$\^\{\*\}\$ &", latex)
    assert re.search(r"& [+$-]+[\d.]+ \[\$-\$[\d.]+, \+[\d.]+\] &", latex), "a minus, not a hyphen"

    def expected(task: str, method: str) -> tuple[float, tuple[float, float], float]:
        sides = [
            evidence_of([r for k, r in made.items() if k[:3] == (task, method, queries)])
            for queries in ("linked", "plain")
        ]
        (found,) = differences(sides[0], sides[1])
        return found.mean, bounds(found), found.p

    lines = [line for line in values_of(results, "queries") if line["checkpoint"] == "source_val" and line["value"]]
    found = {(line["method"], line["column"]): line for line in lines if line["column"].endswith("Δ")}
    titles = {"REIN": "rein", "SET": "set", "FADA": "fada"}
    tasks = {"Cross-sensor Δ": "fbp_cs", "FLAIR Δ": "flair_cr"}
    for (method, column), line in found.items():
        mean, interval, _ = expected(tasks[column], titles[method])
        assert float(line["value"]) == pytest.approx(mean), "over the seeds that both have"
        assert ends(line) == interval
        assert line["n"] == ("2" if method == "SET" else "3")
    family = [(m, c) for m, c in found if m != "SET"]  # two seeds are too few for a mark, and cost none
    p_holm = holm([expected(tasks[c], titles[m])[2] for m, c in family])
    assert [float(found[place]["p_holm"]) for place in family] == pytest.approx(p_holm)
    assert {line["p_holm"] for (m, _), line in found.items() if m == "SET"} == {""}
