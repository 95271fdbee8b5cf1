"""`plan --scale paper`: hours, disk and memory of a suite from measured steps and counted tiles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.catalogue import TASKS
from benchmarks.suites import SUITES, Cell, Suite
from harness.cost import HEAD_PARAMETERS, Bill, Ledger, expected_tiles
from harness.foresight import foresee
from harness.measured import StepTime, closest, load_step_times, trained
from harness.plan import Request, make_plan
from harness.records import RecordStore
from harness.zoo import BACKBONES
from tests.conftest import Program, assert_refused, run_process
from tests.fbp_files import write_fbp
from tests.test_cli import HEAVY, TELL_IMPORTS

WHOLE = ("protocol.steps=0", "protocol.epochs=20", "protocol.evaluations=20")
"""The smoke suite at full length."""
PAPER = ("plan", "--suite", "smoke", "--scale", "paper", *(word for setting in WHOLE for word in ("--set", setting)))
REIN: dict[str, Any] = {
    "scale": "paper",
    "backbone": "dinov3_l",
    "method": "rein",
    "image_size": 512,
    "batch": 8,
    "precision": "bf16",
    "device": "Some GPU",
    "seconds_per_step": 0.5,
    "peak_memory_mb": 20_000,
}


def step(**changed: Any) -> StepTime:
    return StepTime(**{**REIN, **changed})


def measured(tmp_path: Path, *steps: dict[str, Any], name: str = "steps.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(steps[0] if len(steps) == 1 else list(steps)))
    return path


def bills(*steps: StepTime, scale: str = "paper", **words: Any) -> dict[str, Bill]:
    """What the trials of the smoke suite cost, by method."""
    ledger = Ledger([], steps)
    foreseen = foresee(Request(**{"suite": "smoke", "scale": scale, "settings": WHOLE, **words}))
    return {prospect.trial.method.name: ledger.bill(prospect) for prospect in foreseen}


def test_without_data_and_measurements_the_plan_tells_what_to_do(program: Program, tmp_path: Path) -> None:
    result = program(*PAPER, "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    for words in (
        "4 trials, none of which can run: no data",
        "task fbp_cs needs real data at scale paper: give --data-root DIR",
        "time unknown of 4 trials: measure first",
        "python run.py bench step --scale paper --backbone dinov3_l --method rein --json",
        "--measured FILE",
        "official scene count",
    ):
        assert words in result.text
    assert "hours" not in result.text
    assert not (tmp_path / "results").exists()


def test_hours_are_steps_and_evaluations_of_the_tiles_that_the_sources_tell(program: Program, tmp_path: Path) -> None:
    """150 scenes of 210 tiles, a tenth of them held out; 20 epochs in batches of 8; 88 target tiles."""
    train, held = 28_350, 3_150
    steps = 70_875
    seconds = steps * 0.5 + 20 * (held + 88) * 0.5 * 0.5 / 8
    bill = bills(step())["rein"]
    assert bill.tiles
    assert (bill.tiles.train, bill.tiles.source_val, bill.tiles.targets) == (train, held, 88)
    assert bill.steps == steps
    assert bill.seconds == pytest.approx(seconds)
    told = bills(step(seconds_per_evaluated_tile=0.1))["rein"].seconds
    assert told == pytest.approx(steps * 0.5 + 20 * (held + 88) * 0.1)
    half = bills(step(batch=4, seconds_per_step=0.25))["rein"].seconds
    assert half == pytest.approx(seconds), "a step of half as many crops takes half as long"
    epochs = bills(step(), settings=["protocol.steps=0", "protocol.epochs=10", "protocol.evaluations=10"])[
        "rein"
    ].seconds
    assert epochs == pytest.approx(seconds / 2, rel=1e-3)

    path = measured(tmp_path, REIN)
    result = program(*PAPER, "--results", tmp_path / "results", "--measured", path, "--seeds", 3)
    assert result.exit_code == 0, result
    for words in (
        f"about {3 * seconds / 3600:,.1f} GPU hours on Some GPU for 3 trials",
        "70,875",
        "20 x 3,238",
        "a tile counts as 50% of its share",
        "up to 21.0 GB per trial on Some GPU",
        "time unknown of 9 trials",
    ):
        assert words in result.text
    assert "--method rein --json" not in result.text


def test_a_cpu_gives_no_gpu_hours(program: Program, tmp_path: Path) -> None:
    files = [measured(tmp_path, {**REIN, "device": "cpu"}), measured(tmp_path, {**REIN, "method": "lora"}, name="b")]
    given = [word for path in files for word in ("--measured", path)]
    text = program(*PAPER, "--results", tmp_path / "results", *given).text
    assert text.count("hours of that CPU on cpu for 1 trial") == 1
    assert text.count("GPU hours on Some GPU for 1 trial") == 1


@pytest.mark.parametrize("task", TASKS)
def test_every_task_tells_its_tiles(task: str) -> None:
    tiles = expected_tiles(TASKS[task])
    assert tiles
    assert 0 < tiles.source_val < tiles.train < 70_000
    known = {
        "fbp_cs": (31_500, 88),
        "fbp_cr": (26_460, 5_040),
        "flair_cr": (61_712, 15_700),
        "loveda_r2u": (5_464, 2_708),
        "whu_ohs_cr": (4_378, 7_795 - 4_378),
        "oem_cc": (8_200, None),  # its regions differ in size, and no schedule tells of the target
        "potsdam2vaihingen": (5_472, 742),
    }
    assert (tiles.train + tiles.source_val, tiles.targets) == known[task]


def test_tiles_that_are_here_are_counted(program: Program, tmp_path: Path) -> None:
    write_fbp(tmp_path / "data", scenes=3, tiles_per_scene=2)
    bill = bills(step(), data_root=tmp_path / "data")["rein"]
    assert bill.tiles
    assert (bill.tiles.train, bill.tiles.source_val, bill.tiles.targets, bill.tiles.says) == (4, 2, 14, "counted")
    assert bill.steps == 10
    result = program(*PAPER, "--data-root", tmp_path / "data", "--measured", measured(tmp_path, REIN))
    assert result.exit_code == 0, result
    assert "4 trials by epochs, 0 cached, 4 to run" in result.text
    assert "counted" in result.text
    (row,) = [line for line in result.out.splitlines() if "dinov3_l · rein" in line]
    assert row.split()[-2:] == ["15", "s"], "ten steps and twenty times sixteen tiles"


def test_defective_data_are_refused_as_before(program: Program, tmp_path: Path) -> None:
    next(iter(write_fbp(tmp_path).values())).image_path.unlink()
    assert_refused(program(*PAPER, "--data-root", tmp_path), "labels without an image")


def test_disk_counts_records_weights_and_checkpoints(program: Program, tmp_path: Path) -> None:
    told = bills(step(trainable_parameters=30_000_000))
    assert told["rein"].weight_bytes == 4 * 30_000_000
    assert told["rein"].checkpoint_bytes == 4 * 4 * 30_000_000
    assert told["frozen"].weight_bytes == 4 * HEAD_PARAMETERS
    assert told["spectralmoe"].weight_bytes == 4 * (HEAD_PARAMETERS + 5_740_000)
    tiles = 3_150 + 88
    areas = 3 * 8 * (3 * 24 * tiles + 4 * 24 * 24)
    assert 0 < told["rein"].record_bytes - areas < 10_000_000
    unknown = program(*PAPER, "--method", "full", "--results", tmp_path)
    assert "without the weights of full" in unknown.text


def test_records_tell_before_files_do(program: Program, smoke_copy: Path, tmp_path: Path) -> None:
    store = RecordStore(smoke_copy / "test" / "records")
    for record in list(store):
        told = {"seconds": 20.0, "train_seconds": 7.0, "data_seconds": 1.0, "evaluate_seconds": 3.0}
        store.write(replace(record, run={**record.run, **told}))
    wrong = measured(tmp_path, {**REIN, "scale": "test", "backbone": "dinov3", "image_size": 64, "batch": 2})
    plan = ("plan", "--suite", "smoke", "--scale", "test", "--results", smoke_copy, "--measured", wrong)
    known = [Ledger(store, []).bill(prospect) for prospect in foresee(Request(suite="smoke", scale="test"))]
    assert {bill.seconds for bill in known} == {20.0}, "what trials of the same task took, building included"
    same = program(*plan, "--seeds", 2)
    assert same.exit_code == 0, same
    assert same.text.count("20 s") == 4
    # another task has no records: the step and the tile of those that ran count
    other = program(*plan, "--task", "loveda_r2u", "--method", "rein")
    assert other.exit_code == 0, other
    (row,) = [line for line in other.out.splitlines() if line.split()[:2] == ["dinov3", "rein"]]
    assert "2 (batch 2)" in row
    assert row.split()[-1] == "records"
    assert "1 measurement fit no trial here" in other.text


def test_cells_that_come_to_the_same_are_foreseen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = (Cell(backbone="dinov3", seeds=3), Cell(seeds=1), Cell(backbone="sam", seeds=2))
    monkeypatch.setitem(SUITES, "mixed", Suite(name="mixed", title="", cells=cells, seeds=2))
    asked = Request(suite="mixed", scale="test", tasks=["fbp_cs"], methods=["lora"])
    counts = {prospect.trial.backbone.name: prospect.count for prospect in foresee(asked)}
    assert counts == dict.fromkeys(BACKBONES, 1) | {"dinov3": 3, "sam": 2}
    assert sum(counts.values()) == len(make_plan(asked, None).trials)


def test_the_closest_measurement_is_taken() -> None:
    trial = bills()["rein"].prospect.trial
    options = {**trial.options.__dict__}
    ranked = [
        step(device="cpu", precision="fp32"),
        step(batch=4, precision="fp32"),
        step(batch=4),
        step(),
        step(seconds_per_step=0.4),
        step(device="cpu", options=options),
        step(origin="records", device="cpu", batch=2, options=options),
    ]
    for length in range(1, len(ranked) + 1):
        assert closest(trial, ranked[:length]) is ranked[length - 1]
    for other in ({"backbone": "clip_l"}, {"method": "lora"}, {"image_size": 256}, {"scale": "mini"}):
        assert closest(trial, [step(**other)]) is None
    assert closest(trial, [step(backbone="dinov3")])


def test_measurements_that_fit_nothing_are_told(program: Program, tmp_path: Path) -> None:
    path = measured(tmp_path, {**REIN, "image_size": 256}, {**REIN, "further": [1]})
    result = program(*PAPER, "--results", tmp_path, "--measured", path)
    assert "--measured: 1 measurement fit no trial here: dinov3_l rein (256 px, paper)" in result.text
    assert len(load_step_times(path)) == 2


WRONG = {
    "no file": (None, ("cannot be read",)),
    "no JSON": ("steps", ("no JSON",)),
    "no number": (json.dumps({**REIN, "seconds_per_step": float("nan")}), ("no JSON", "NaN")),
    "a field lacks": (json.dumps({k: v for k, v in REIN.items() if k != "device"}), ("measurement 1", "device")),
    "no time": (json.dumps([REIN, {**REIN, "seconds_per_step": 0}]), ("measurement 2", "seconds_per_step", "0")),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused(program: Program, tmp_path: Path, text: str | None, words: tuple[str, ...]) -> None:
    path = tmp_path / "steps.json"
    if text is not None:
        path.write_text(text)
    assert_refused(program(*PAPER, "--measured", path), str(path), "bench step", *words)


def test_the_cost_imports_nothing_heavy(tmp_path: Path) -> None:
    result = run_process(*PAPER, "--measured", measured(tmp_path, REIN), "--results", tmp_path, code=TELL_IMPORTS)
    assert result.exit_code == 0, result.err
    assert "GPU hours" in result.out
    assert not set(HEAVY) & set(result.err.split())


def test_the_command_to_measure_is_of_the_trials_that_are_planned(program: Program) -> None:
    changed = ("--set", "protocol.crop=256", "--set", "spectralmoe.preset=released", "--precision", "fp32")
    told = program(*PAPER[:5], *changed, "--method", "spectralmoe").text
    assert "--image-size 256 --precision fp32 --set spectralmoe.preset=released --method spectralmoe --json" in told


def test_only_what_trains_counts_as_trained() -> None:
    assert trained({"head": 3, "adapter": 2, "backbone": 1, "frozen": 1000, "depth_encoder": 1000}) == 6
