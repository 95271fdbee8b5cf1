"""What a run ends with: every method against the baseline, and sentences that the records bear out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.lessons import Lessons, lessons_of
from harness.records import RecordStore
from tests.conftest import Program
from tests.simulated import write_results
from tests.test_compare import GAINS, TASKS, line, records, target_miou

SUITE = ("--suite", "fair", "--backbone", "dinov3", "--scale", "test")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods with three seeds on three tasks; LoRA is better by far, REIN worse."""
    folder = tmp_path_factory.mktemp("lessons")
    write_results(folder, GAINS, tasks=TASKS)
    return folder


def lessons(results: Path) -> Lessons:
    return lessons_of(RecordStore(results / "test" / "records"), "test")


def change(results: Path, method: str, task: str) -> float:
    """Difference to the baseline, from the arrays on the disk."""
    mine, base = ([target_miou(r) for r in records(results, task, method=name)] for name in (method, "frozen"))
    return float(np.mean(mine) - np.mean(base))


def test_methods_stand_against_the_baseline_over_all_tables(results: Path) -> None:
    first, last = lessons(results).verdicts
    assert (first.title, last.title) == ("LoRA", "REIN")
    for verdict, name in ((first, "lora"), (last, "rein")):
        changes = [change(results, name, task) for task in TASKS]
        assert (verdict.mean, verdict.least, verdict.most) == pytest.approx(
            (np.mean(changes), min(changes), max(changes))
        )
        assert verdict.tables == len(TASKS)
    assert (first.better, first.worse) == (3, 0)
    assert (last.better, last.worse) == (0, 3)


def test_one_seed_tests_nothing_and_says_so(tmp_path: Path) -> None:
    write_results(tmp_path, GAINS, seeds=1)
    found = lessons(tmp_path)
    assert [(v.better, v.worse, v.open, v.untested) for v in found.verdicts] == [(0, 0, 0, 1)] * 2
    assert "takes 3 seeds and 10 target scenes" in found.sentences[0]


def test_two_like_methods_stay_open(tmp_path: Path) -> None:
    write_results(tmp_path, {"frozen": 0.0, "lora": 0.0})
    (verdict,) = lessons(tmp_path).verdicts
    assert (verdict.open, verdict.better + verdict.worse) == (1, 0)


def test_nothing_done_teaches_nothing(tmp_path: Path) -> None:
    assert lessons(tmp_path) == Lessons()


def test_a_run_ends_with_them_and_with_the_report(program: Program, results: Path) -> None:
    chosen = [word for option, names in (("--method", GAINS), ("--task", TASKS)) for n in names for word in (option, n)]
    result = program(*SUITE, *chosen, "--results", results)
    assert result.exit_code == 0, result
    assert "9 cached" not in result.text
    assert "27 cached, 0 to run" in result.text
    end = result.out[result.out.index("against frozen") :]
    mean = float(np.mean([change(results, "lora", task) for task in TASKS]))
    assert line(end, "LoRA")[1] == f"{mean:+.1f}"
    assert line(end, "LoRA")[3:] == ["3", "0", "0", "0"]
    assert "Of 6 tested differences to the baseline 6 can be told from 0" in result.text
    assert "LoRA has the best average rank, 1.0 of 3" in result.text
    assert re.search(r"mIoU changes by [+-]\d+\.\d points on average over 3 tasks", result.text)
    assert "Choosing checkpoints on the target would have added 0.0 points on average." in result.text
    page = results / "test" / "report.html"
    assert f"report: {page}" in result.text
    assert "Of 6 tested differences" in page.read_text()
    before = page.stat().st_mtime_ns
    assert program(*SUITE, *chosen, "--results", results).exit_code == 0
    assert page.stat().st_mtime_ns == before, "nothing was run: the page stays"
