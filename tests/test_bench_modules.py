"""`run.py bench modules`: what is measured, what is printed, what is refused. Times themselves are never judged."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.bench_modules import build, measure, measuring
from harness.bench_setup import Setup
from harness.bench_step import Piece, Step, clock, facts
from harness.lookup import find_method, load_class
from methods import METHODS
from methods.base import EncoderSpec, Method
from tests.conftest import Program, Result, assert_refused, run_program

WIDTH, TOKENS = 64, 16
SMALL = ("bench", "modules", "--width", WIDTH, "--tokens", TOKENS, "--repeats", 2)
BUILT_IN = [name for name in METHODS if ":" not in name]
FIGURES = {"forward_ms", "forward_backward_ms", "ratio", "ratio_low", "ratio_high", "peak_mb", "peak_ratio"}
FACTS = {
    *("width", "heads", "tokens", "prefix_tokens", "batch", "precision", "device", "compiled", "repeats", "threads"),
    *("clock", "machine", "load", "torch"),
}
KEYS = {"method", "preset", "parameters_per_block", "parameters_shared", "block", "refine", "error"}

METHOD = """
import torch
from dataclasses import dataclass
from types import MappingProxyType
from torch import nn
from methods.base import Method
from methods.options import Options


@dataclass(frozen=True, kw_only=True)
class MineOptions(Options):
    name, title, paper = "mine", "Mine", "none"
    ports = MappingProxyType({{"default": "inferred"}})


class Mine(Method):
    Options = MineOptions

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.scale = nn.Parameter(torch.zeros(spec.blocks, 3))

    def {body}
"""


def write(folder: Path, body: str) -> str:
    """A method file with that hook."""
    path = folder / "mine.py"
    path.write_text(METHOD.format(body=body))
    return f"{path}:Mine"


def rows(result: Result) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["method"], row["preset"]): row for row in json.loads(result.out)["modules"]}


@pytest.fixture(scope="module")
def measured() -> Result:
    """The command for every method, in JSON."""
    return run_program(*SMALL, "--json")


def test_every_method_runs_and_every_key_is_there(measured: Result) -> None:
    assert measured.exit_code == 0, measured
    found = json.loads(measured.out)
    assert found.keys() == {"setup", "plain", "modules"}
    assert found["setup"].keys() == FACTS
    assert (found["setup"]["width"], found["setup"]["tokens"], found["setup"]["threads"]) == (WIDTH, TOKENS, 1)
    assert found["plain"].keys() == FIGURES
    assert {row["method"] for row in found["modules"]} == set(BUILT_IN)
    assert {("spectralmoe", "paper"), ("spectralmoe", "released")} <= rows(measured).keys()
    for row in found["modules"]:
        assert row.keys() == KEYS
        assert not row["error"]
        for figures in filter(None, (found["plain"], row["block"], row["refine"])):
            assert figures.keys() == FIGURES
            assert all(math.isfinite(value) and value > 0 for value in figures.values())
            assert figures["forward_ms"] < figures["forward_backward_ms"]
            assert figures["ratio_low"] <= figures["ratio"] <= figures["ratio_high"]


def test_refine_stands_alone_for_just_the_methods_that_have_one(measured: Result) -> None:
    for (name, _), row in rows(measured).items():
        defined = {hook for base in load_class(METHODS[name]).__mro__ if base is not Method for hook in vars(base)}
        assert (row["refine"] is not None) == ("refine" in defined), name


def test_parameters_add_up_to_the_declared_count_of_an_encoder(measured: Result) -> None:
    blocks = 7
    spec = EncoderSpec(
        blocks=blocks,
        width=WIDTH,
        heads=1,
        patch_size=16,
        grid=(4, 4),
        prefix_tokens=5,
        feature_blocks=(1, 3, 5, 6),
        queries=100,
        query_width=256,
        depth_blocks=blocks,
        depth_width=WIDTH,
        depth_grid=(4, 4),
    )
    block = 12 * WIDTH**2 + 13 * WIDTH  # of full fine-tuning: the backbone's own, by hand
    for (name, preset), row in rows(measured).items():
        cls = load_class(METHODS[name])
        declared = cls.expected_count(spec, cls.Options.make({"preset": preset})) + cls.trains_backbone * blocks * block
        assert row["parameters_shared"] + blocks * row["parameters_per_block"] == declared, name


def test_memory_beside_the_plain_block(measured: Result) -> None:
    found = rows(measured)
    plain = json.loads(measured.out)["plain"]["peak_mb"]
    assert found["frozen", "default"]["block"]["peak_mb"] == plain
    assert found["frozen", "default"]["block"]["peak_ratio"] == 1
    # the gradients of the block's weights alone
    assert found["full", "default"]["block"]["peak_mb"] > 12 * WIDTH**2 * 4 / 1e6 > plain
    for (name, _), row in found.items():
        assert row["block"]["peak_ratio"] > 1 or name == "frozen", name
        assert row["block"]["peak_ratio"] == pytest.approx(row["block"]["peak_mb"] / plain)


class Spend(nn.Module):
    """Holds some memory in the forward pass and lets go of it."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers

    def forward(self, x: Tensor) -> Tensor:
        held = torch.ones(self.numbers)
        return x * held.sum() if self.numbers else x * 2.0


@pytest.mark.parametrize("numbers", [0, 1_000_000])
def test_the_peak_is_what_a_step_holds_at_a_time(numbers: int) -> None:
    setup = Setup(width=WIDTH, tokens=TOKENS, batch=3, device="cpu")
    tokens = 3 * (TOKENS + 5) * WIDTH * 4
    peak = Step(Piece(Spend(numbers), None), setup, depth=False).peak()
    # output and gradient of the input, or the memory in between
    expected = 2 * tokens if numbers == 0 else 4 * numbers
    assert expected <= peak <= expected + tokens + 1024


def test_a_step_sends_gradients_to_the_input_and_to_what_trains() -> None:
    ref = find_method("rein")
    setup = Setup(width=WIDTH, tokens=TOKENS, device="cpu")
    encoder, method = build(ref, ref.options_class.make({}), setup, blocks=1)
    step = Step(Piece(encoder.blocks[0], method), setup, depth=False)
    frozen = [p for p in step.piece.parameters() if not p.requires_grad]
    assert frozen
    assert all(p.grad is None for p in frozen)
    assert step.x.grad is not None
    assert step.x.grad[:, :5].any()
    # the link to the queries has no part in a block
    assert all((p.grad is None) == name.startswith("link.") for name, p in method.named_parameters())
    assert encoder.blocks[0].training is False
    assert method.training


def test_the_table_names_methods_ratios_and_the_machine(program: Program) -> None:
    result = program(*SMALL, "--method", "lora", "--method", "spectralmoe", "--precision", "bf16", "--batch", 2)
    assert result.exit_code == 0, result
    for word in ("plain block", "lora", "(paper)", "(released)", "IQR", "refine", "2,048", "bf16", "batch 2", "1 CPU"):
        assert word in result.text, word
    assert f"torch {torch.__version__}" in result.text
    assert "Compare ratios, not times" in result.text
    assert all(len(line) <= 80 for line in result.out.splitlines()[:9])


def test_a_method_that_does_not_run_is_a_row_and_exit_code_1(program: Program, tmp_path: Path) -> None:
    broken = write(tmp_path, "refine(self, x_BND, layer, depth_BMD=None): raise MemoryError('too [large]')")
    both = ("--method", broken, "--method", "frozen")
    result = program(*SMALL, *both, "--json")
    assert result.exit_code == 1
    found = rows(result)
    assert found["mine", "default"]["error"] == "MemoryError: too [large]"
    assert found["mine", "default"]["block"] is None
    assert found["frozen", "default"]["block"]["ratio"] > 0
    table = program(*SMALL, *both)
    assert table.exit_code == 1
    assert "failed mine: MemoryError: too [large]" in table.text
    assert "Traceback" not in table.out + table.err


def test_a_method_from_outside_and_a_tuner_are_measured(program: Program, tmp_path: Path) -> None:
    mine = write(tmp_path, "refine(self, x_BND, layer, depth_BMD=None): return x_BND * (1 + self.scale[layer].sum())")
    result = program(*SMALL, "--method", mine, "--method", "peft:dora", "--json")
    assert result.exit_code == 0, result
    assert rows(result)["mine", "default"]["parameters_per_block"] == 3
    assert rows(result)["peft:dora", "default"]["refine"] is None
    assert rows(result)["peft:dora", "default"]["parameters_per_block"] > 0


def test_compiled_code_of_the_plain_block_is_not_taken_for_a_method_made_of_hooks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # which code belongs to which module is settled before the backend, and this one is quick
    monkeypatch.setattr(Piece, "compile", lambda piece: nn.Module.compile(piece, backend="eager"))
    setup = Setup(width=WIDTH, tokens=TOKENS, repeats=2, device="cpu", compiled=True)
    ref = find_method("adaptformer")
    with measuring(setup):
        cost = measure(ref, ref.options_class.make({}), setup)
    assert cost.error == ""
    assert cost.block
    assert cost.block.peak_ratio > 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--width", 100), ("--width 100", "multiple of 64")),
        (("--width", 0), ("--width 0", "at least 1")),
        (("--tokens", 1000), ("--tokens 1000", "square", "961", "1024")),
        (("--batch", 0), ("--batch 0", "at least 1")),
        (("--repeats", 1), ("--repeats 1", "at least 2")),
        (("--threads", 0), ("--threads 0", "at least 1")),
        (("--precision", "fp16"), ("precision", "'fp16'", "bf16", "fp32")),
        (("--device", "gpu"), ("device", "'gpu'", "cuda", "cpu")),
        (("--method", "rien"), ("method", "'rien'", "did you mean 'rein'?")),
        (("--method", "peft:lora"), ("peft:lora", "not offered")),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else None,
)
def test_mistakes_are_refused(program: Program, args: tuple[object, ...], words: tuple[str, ...]) -> None:
    result = program(*SMALL, *args)
    assert_refused(result, *words)
    assert not result.out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(program: Program) -> None:
    assert_refused(program(*SMALL, "--device", "cuda"), "--device cuda", "--device cpu")


def test_one_thread_is_timed_by_the_cpus_clock_and_several_by_the_walls() -> None:
    for threads, passes in ((1, "CPU time"), (2, "wall time")):
        setup = Setup(device="cpu", threads=threads)
        assert facts(setup)["clock"] == clock(setup) == passes


def test_a_block_that_cannot_be_measured_is_the_users_mistake_and_the_threads_are_restored(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def full(_step: Step) -> tuple[float, float]:
        threads.append(torch.get_num_threads())
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(Step, "__call__", full)
    before = torch.get_num_threads()
    assert_refused(program(*SMALL, "--threads", before + 1), "plain block", "no memory left", "--tokens")
    assert threads == [before + 1]
    assert torch.get_num_threads() == before
