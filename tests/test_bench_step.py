"""`run.py bench step`: what is measured, what is printed, what is refused. Times themselves are never judged."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.bench_parts import BACKWARD, DEPTH, PARTS, Elapsed, Stopwatch, shares
from harness.bench_setup import StepSetup
from harness.bench_training import measure
from harness.foresight import lone_trial
from harness.gpus import PEAKS, peak
from harness.measured import load_step_times
from harness.rehearsal import Rehearsal
from tests.conftest import Program, Result, assert_refused, run_program

SMALL = ("bench", "step", "--scale", "mini", "--backbone", "dinov3", "--batch", 1, "--steps", 2, "--device", "cpu")
PAPER = ("bench", "step", "--scale", "paper", "--backbone", "dinov3_l", "--device", "cpu")


@functools.cache
def measured(method: str, *args: object) -> Result:
    """The JSON of a step of a method, measured once."""
    return run_program(*SMALL, "--method", method, *args, "--json")


def body(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_json_tells_what_was_measured_and_its_parts_make_the_step() -> None:
    found = body(measured("spectralmoe"))
    assert (found["scale"], found["backbone"], found["method"], found["task"]) == (
        "mini",
        "dinov3",
        "spectralmoe",
        "fbp_cs",
    )
    assert (found["image_size"], found["batch"], found["precision"], found["device"]) == (64, 1, "fp32", "cpu")
    assert found["random_weights"] is False
    assert list(found["parts"]) == list(PARTS)
    assert len(found["steps"]) == 2
    wholes = [sum(part["seconds"] for part in step.values()) for step in found["steps"]]
    assert found["seconds_per_step"] == pytest.approx(sum(wholes) / 2)
    assert found["images_per_second"] == pytest.approx(1 / found["seconds_per_step"])
    assert all(took["seconds"] > 0 for took in found["parts"].values())
    assert len(found["losses"]) == 4
    assert all(math.isfinite(loss) for loss in found["losses"])
    assert found["peak_memory_mb"] >= found["built_mb"] > 100
    assert found["utilisation"] is None


def test_only_methods_that_read_depth_pay_for_it() -> None:
    assert DEPTH not in body(measured("rein"))["parts"]


def test_flops_are_those_of_the_blocks_and_more() -> None:
    found = body(measured("frozen"))
    # six blocks of width 96 on 64 + 5 tokens; the frozen ones have a forward pass alone
    linear = 6 * 12 * 96**2 * 69 * 2
    assert found["flops"] > linear
    assert body(measured("spectralmoe"))["flops"] > found["flops"] + linear


def test_a_measurement_is_read_by_plan(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    path.write_text(measured("rein").out)
    (step,) = load_step_times(path)
    trial = lone_trial("mini", "fbp_cs", "dinov3", "rein")
    assert step.fits(trial)
    assert step.options == vars(trial.options)
    told = run_program("plan", "--suite", "smoke", "--method", "rein", "--measured", path)
    assert told.exit_code == 0
    assert "measured" in told.text


def test_sizes_of_options_go_over_settings() -> None:
    found = body(measured("rein", "--image-size", 96, "--set", "protocol.crop=32", "--set", "rein.rank=4"))
    assert found["image_size"] == 96
    assert found["options"]["rank"] == 4


def test_random_weights_are_marked() -> None:
    assert body(measured("rein", "--random-weights"))["random_weights"] is True
    shown = run_program(*SMALL, "--method", "rein", "--random-weights")
    assert "RANDOM WEIGHTS" in shown.out
    assert "RANDOM WEIGHTS" not in run_program(*SMALL, "--method", "rein").out


def test_the_table_has_a_row_for_each_part_and_says_where_the_method_is(program: Program) -> None:
    shown = program(*SMALL, "--method", "lora", "--precision", "bf16")
    assert shown.exit_code == 0
    rows = {line.split()[0] for line in shown.out.splitlines()}
    assert {"backbone", "head", "loss", "backward", "optimiser", "step"} <= rows
    assert "adapter" not in rows
    for words in ("inside the blocks", "images/s", "GiB", "TFLOP", "bf16", "64 px"):
        assert words in shown.out


def test_half_precision_changes_the_losses_a_little() -> None:
    whole, half = (body(measured("rein", "--precision", name))["losses"][0] for name in ("fp32", "bf16"))
    assert whole != half
    assert whole == pytest.approx(half, rel=0.1)


def test_a_step_that_does_not_run_is_told(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Rehearsal, images: int = 0) -> None:
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(Rehearsal, "step", full)
    assert_refused(program(*SMALL, "--method", "rein"), "no memory left", "--image-size", "--batch")


def test_threads_are_set_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    before = torch.get_num_threads()
    original = Rehearsal.step

    def watched(self: Rehearsal, images: int = 0) -> Any:
        threads.append(torch.get_num_threads())
        return original(self, images)

    monkeypatch.setattr(Rehearsal, "step", watched)
    setup = StepSetup(scale="mini", backbone="dinov3", method="frozen", threads=before + 1, steps=1, device="cpu")
    measure(setup, lone_trial("mini", "fbp_cs", "dinov3", "frozen", ("protocol.batch_size=1",)), lambda: None)
    assert set(threads) == {before + 1}
    assert torch.get_num_threads() == before


def test_watching_changes_no_number() -> None:
    trial = lone_trial("mini", "fbp_cs", "dinov3", "spectralmoe", ("protocol.batch_size=1",))
    plain, watched = Rehearsal(trial), Rehearsal(trial)
    stopwatch = Stopwatch(watched)
    for _ in range(2):
        assert torch.equal(plain.step().total, stopwatch.step(watched)[0].total)


def test_a_part_that_runs_again_in_the_backward_pass_counts_there() -> None:
    rehearsal = Rehearsal(lone_trial("mini", "fbp_cs", "dinov3", "rein", ("protocol.batch_size=1",)))
    stopwatch = Stopwatch(rehearsal)
    method = rehearsal.model.method
    again = []

    def adapt_again(_gradient: torch.Tensor) -> None:
        marks = len(stopwatch.marks)
        method.adapt(torch.zeros(1, 69, 96), 0, None)
        again.append(len(stopwatch.marks) - marks)

    rehearsal.model.head.class_layer.weight.register_hook(adapt_again)
    _, parts = stopwatch.step(rehearsal)
    assert again == [0]
    assert BACKWARD in parts


def test_shares_are_of_cpu_time_where_it_is_known() -> None:
    told = {"head": Elapsed(seconds=9.0, cpu_seconds=1.0), "loss": Elapsed(seconds=1.0, cpu_seconds=3.0)}
    assert shares(told) == {"head": 0.25, "loss": 0.75}
    told = {"head": Elapsed(seconds=9.0, cpu_seconds=None), "loss": Elapsed(seconds=1.0, cpu_seconds=None)}
    assert shares(told) == {"head": 0.9, "loss": 0.1}


@pytest.mark.parametrize(
    ("device", "known"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA GeForce RTX 4090", None),
        ("NVIDIA A1000", None),
    ],
)
def test_a_gpu_is_known_by_its_name(device: str, known: str | None) -> None:
    for precision in ("bf16", "fp32"):
        assert peak(device, precision) == (PEAKS[known][precision] if known else None)


@pytest.mark.usefixtures("weights_folder")
def test_missing_weights_are_refused_with_the_way_to_measure_without(program: Program) -> None:
    result = program(*PAPER, "--method", "rein")
    assert_refused(result, "weights of dinov3_l are missing", "weights fetch", "--random-weights")
    assert not result.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--steps", 0), ("--steps 0", "at least 1")),
        (("--batch", -1), ("--batch -1", "at least 0")),
        (("--image-size", 100), ("protocol.crop=100", "multiple of 32")),
        (("--threads", 0), ("--threads 0", "at least 1")),
        (("--precision", "fp16"), ("precision", "'fp16'")),
        (("--device", "gpu"), ("device", "'gpu'")),
        (("--method", "rien"), ("method", "'rien'", "did you mean 'rein'?")),
        (("--method", "all"), ("--method all", "give one")),
        (("--task", "all"), ("--task all", "give one")),
        (("--backbone", "dinov4"), ("backbone", "'dinov4'")),
        (("--scale", "papre"), ("scale", "'papre'")),
        (("--set", "lora.rank=2"), ("lora",)),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else None,
)
def test_mistakes_are_refused(program: Program, args: tuple[object, ...], words: tuple[str, ...]) -> None:
    given = ("--method", "rein") if "--method" not in args else ()
    result = program(*SMALL, *given, *args)
    assert_refused(result, *words)
    assert not result.out


def test_what_saves_memory_is_told_and_its_recomputation_is_no_work_of_the_model() -> None:
    found = body(measured("rein", "--checkpointing", "--accumulate", 2))
    assert (found["checkpointing"], found["accumulate"], found["compiled"]) == (True, 2, False)
    assert found["flops"] == body(measured("rein"))["flops"]
