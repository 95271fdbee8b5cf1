"""A trial that was stopped goes on from its last evaluation point, to the same record bit for bit."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import halfway
from harness.means import Means
from harness.plan import Request, make_plan
from harness.records import Arrays, Record, RecordStore
from harness.train import run_trial
from harness.trial import Trial
from tests.conftest import SMOKE, Program

STEPS, EVALUATIONS = 6, 3
LENGTH = (f"protocol.steps={STEPS}", f"protocol.evaluations={EVALUATIONS}")


def trial_of(method: str, *settings: str) -> Trial:
    request = Request(suite="smoke", scale="test", methods=[method], seeds=1, settings=[*LENGTH, *settings])
    (trial,) = make_plan(request, None).pending
    return trial


def stopping_after(last: int) -> Callable[[int, int, float], None]:
    """A report that ends the trial as Ctrl-C does."""

    def report(step: int, _steps: int, _loss: float) -> None:
        if step == last:
            raise KeyboardInterrupt

    return report


def stopped(trial: Trial, path: Path, last: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_trial(trial, stopping_after(last), means=Means(halfway=path))


def assert_same(record: Record, reference: Record) -> None:
    assert (record.status, record.error) == ("done", None)
    assert record.result == reference.result
    for mine, other in ((record.arrays, reference.arrays), *_attachments(record, reference)):
        assert mine.keys() == other.keys()
        for name, array in mine.items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)


def _attachments(record: Record, reference: Record) -> list[tuple[Arrays, Arrays]]:
    assert record.attachments.keys() == reference.attachments.keys()
    return [(arrays, reference.attachments[name]) for name, arrays in record.attachments.items()]


@pytest.mark.parametrize("method", ["frozen", "spectralmoe", "set", "earth_adapter", "full", "peft:adalora"])
def test_stopped_at_any_step_it_ends_in_the_same_record(method: str, tmp_path: Path) -> None:
    trial, path = trial_of(method), tmp_path / "half"
    reference = run_trial(trial)
    last = random.Random(method).randint(STEPS // EVALUATIONS + 1, STEPS - 1)
    stopped(trial, path, last)
    done = last - last % (STEPS // EVALUATIONS) if last % (STEPS // EVALUATIONS) else last - STEPS // EVALUATIONS
    seen: list[int] = []
    record = run_trial(trial, lambda step, *_: seen.append(step), means=Means(halfway=path))
    assert seen == list(range(done + 1, STEPS + 1))
    assert record.run["resumed_at"] == done
    assert record.run["seconds"] >= record.run["earlier_seconds"] + record.run["build_seconds"]
    assert record.run["earlier_seconds"] > record.run["train_seconds"] * done / STEPS / 4
    assert_same(record, reference)


def test_stopped_twice(tmp_path: Path) -> None:
    trial, path = trial_of("lora"), tmp_path / "half"
    for last in (3, 5):
        stopped(trial, path, last)
    record = run_trial(trial, means=Means(halfway=path))
    assert record.run["resumed_at"] == 4
    assert_same(record, run_trial(trial))


def test_what_cannot_be_of_use_is_named_and_the_trial_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, path = trial_of("frozen"), tmp_path / "half"
    reference = run_trial(trial)
    stopped(trial, path, 3)
    whole = path.read_bytes()

    def assert_anew(said: str) -> None:
        caplog.clear()
        record = run_trial(trial, means=Means(halfway=path))
        assert "resumed_at" not in record.run
        assert said in caplog.text
        assert_same(record, reference)

    for damaged in (whole[: len(whole) // 2], b"", b"[]"):
        path.write_bytes(damaged)
        assert_anew("is damaged (")
    torch.save([], path)
    assert_anew("is damaged (TypeError): its trial begins anew")
    path.write_bytes(whole)
    stopped(replace(trial, seed=1), tmp_path / "other", 3)
    (tmp_path / "other").replace(path)
    assert_anew("with another key")
    path.write_bytes(whole)
    monkeypatch.setattr(halfway, "_code", lambda: "another")
    assert_anew("with another code")


def test_a_file_that_cannot_be_written_costs_the_trial_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial = trial_of("frozen")
    record = run_trial(trial, means=Means(halfway=tmp_path / "nowhere" / "half"))
    assert_same(record, run_trial(trial))
    assert "if interrupted, its trial begins anew" in caplog.text


class _Marks:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_the_file_is_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, marker = tmp_path / "half", tmp_path / "marker"
    torch.save({"stamp": _Marks(marker)}, path)
    assert run_trial(trial_of("frozen"), means=Means(halfway=path)).status == "done"
    assert "is damaged" in caplog.text
    assert not marker.exists()


def test_a_run_goes_on_from_it_and_leaves_nothing_behind(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "test" / "records"
    RecordStore(folder).prepare()
    trial = trial_of("frozen")
    path = folder / f"{trial.key}.halfway"
    stopped(trial, path, 3)
    settings = [word for change in LENGTH for word in ("--set", change)]
    chosen = ("--method", "frozen", "--seeds", 1, *settings)
    assert program(*SMOKE[:4], *chosen, "--results", tmp_path).exit_code == 0
    record = RecordStore(folder).load(trial.key)
    assert record is not None
    assert record.run["resumed_at"] == 2
    assert not path.exists()
