"""Options that save memory or time: the same numbers, less kept; and bf16, which is part of the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.backbones import build_encoder
from harness.foresight import foresee
from harness.means import Means, Thrift
from harness.plan import Request, make_plan
from harness.records import RecordStore
from harness.segmentor import Segmentor, build_segmentor
from harness.train import run_trial
from harness.trial import Trial
from harness.zoo import BACKBONES, DEPTH_ENCODER, RGB
from tests.conftest import TINY, Program, assert_refused
from tests.models import CASES, build_case, images, labels, make_trial, randomise

PARTS = 3
"""Of a batch of four: chunks of two images."""


def gradients(model: Segmentor, **thrift: Any) -> dict[str, Tensor]:
    """Of a step with seeded noise; the loss is among them."""
    model.save(Thrift(**thrift))
    model.train()
    torch.manual_seed(3)
    losses = model.losses(images(4), labels(4))
    losses.total.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**found, "loss": losses.task.detach(), "auxiliary": losses.auxiliary.detach()}


def assert_same_but_for_rounding(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(tensor.abs().max()) for name, tensor in expected.items() if name != "loss")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6 * largest, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_recomputing_and_parts_change_nothing_beyond_rounding(case: str) -> None:
    plain = gradients(randomise(build_case(case), 0.05))
    assert_same_but_for_rounding(gradients(randomise(build_case(case), 0.05), checkpointing=True), plain)
    assert_same_but_for_rounding(gradients(randomise(build_case(case), 0.05), accumulate=PARTS), plain)


def kept(case: str, **thrift: Any) -> int:
    """Bytes that the forward pass through the encoder keeps for the backward pass, inputs and weights left out."""
    model = build_case(case)
    model.save(Thrift(**thrift))
    model.train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        maps = model.features(images(4))
    assert maps
    return sum(found.values())


@pytest.mark.parametrize("case", ["rein", "spectralmoe-paper", "lora", "adaptformer"])
def test_recomputing_keeps_less(case: str) -> None:
    assert kept(case, checkpointing=True) < 0.5 * kept(case)


def test_evaluation_is_left_alone() -> None:
    plain, thrifty = build_case("rein"), build_case("rein")
    thrifty.save(Thrift(accumulate=2))
    x = images(4)
    assert torch.equal(plain.eval().predict(x), thrifty.eval().predict(x))


@contextmanager
def counting_frames() -> Iterator[list[str]]:
    """The names of functions that go through the compiler, without a code generator."""
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
        seen.append(str(graph))
        return graph.forward

    torch._dynamo.reset()
    original = torch.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda function: original(function, backend=backend))
        yield seen
    torch._dynamo.reset()


def test_compiled_blocks_give_the_same() -> None:
    plain = gradients(randomise(build_case("rein"), 0.05))
    with counting_frames() as seen:
        compiled = gradients(randomise(build_case("rein"), 0.05), compiled=True)
    assert seen
    assert_same_but_for_rounding(compiled, plain)


@pytest.mark.parametrize("name", [*BACKBONES, "depth"])
def test_every_block_attends_by_the_fused_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = BACKBONES.get(name, DEPTH_ENCODER)
    encoder = build_encoder(spec, "mini", RGB, "nearest", "random")
    calls = []
    fused = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        nn.functional, "scaled_dot_product_attention", lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs)
    )
    encoder(torch.zeros(1, 3, 64, 64))
    # DOFA makes its kernel by a layer of attention over the wavelengths
    assert len(calls) == len(encoder.blocks) + (name == "dofa")


# --- In a run


def test_a_run_takes_them_says_so_in_the_record_and_finds_it_again_without_them(
    program: Program, tmp_path: Path
) -> None:
    one = (*TINY, "--method", "rein", "--task", "fbp_cs", "--seeds", 1, "--results", tmp_path)
    assert program(*one, "--checkpointing", "--accumulate", 2).exit_code == 0
    (record,) = RecordStore(tmp_path / "test" / "records")
    assert (record.run["checkpointing"], record.run["accumulate"], record.run["compiled"]) == (True, 2, False)
    assert "1 cached" in program("plan", *one).text
    trial = make_trial("rein")
    assert_refused(program(*one, "--accumulate", 0), "--accumulate 0: must be at least 1")
    assert trial.key == make_trial("rein").key


# --- bf16


def trial_of(method: str, *settings: str) -> Trial:
    asked = Request(suite="smoke", scale="test", tasks=["fbp_cs"], methods=[method], settings=settings, seeds=1)
    return make_plan(asked, None).trials[0].trial


def frozen_matrices(model: Segmentor) -> list[nn.Parameter]:
    encoders = [model.encoder, *([model.depth_encoder] if model.depth_encoder else [])]
    inside = {id(module) for encoder in encoders for module in encoder.blocks.modules()}
    modules = [module for encoder in encoders for module in encoder.own_modules if id(module) in inside]
    return [module.weight for module in modules if isinstance(module, nn.Linear)]


@pytest.mark.parametrize("method", ["spectralmoe", "rein", "lora", "vpt", "earth_adapter", "peft:dora", "peft:oft"])
def test_bf16_holds_frozen_matrices_alone_and_its_loss_is_near(method: str) -> None:
    plain, half = (build_segmentor(trial_of(method, f"protocol.precision={name}")) for name in ("fp32", "bf16"))
    x, label = images(), labels()
    assert all(weight.dtype == torch.bfloat16 for weight in frozen_matrices(half))
    assert all(weight.dtype == torch.float32 for weight in frozen_matrices(plain))
    assert all(p.dtype == torch.float32 for p in half.parameters() if p.requires_grad)
    values = []
    for model in (plain, half):
        model.train()
        torch.manual_seed(5)
        losses = model.losses(x, label)
        losses.total.backward()
        values.append(float(losses.task.detach()))
        assert losses.total.dtype == torch.float32
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert values[1] == pytest.approx(values[0], rel=0.05)


def test_full_fine_tuning_keeps_what_trains_in_fp32() -> None:
    model = build_segmentor(trial_of("full", "protocol.precision=bf16"))
    assert all(p.dtype == torch.float32 for p in model.encoder.parameters() if p.requires_grad)


def test_precision_is_part_of_the_key_and_a_trial_in_bf16_ends_and_goes_on(tmp_path: Path) -> None:
    fp32, bf16 = trial_of("spectralmoe"), trial_of("spectralmoe", "protocol.precision=bf16")
    assert fp32.key != bf16.key
    path = tmp_path / "half"

    def stop(step: int, *_: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(bf16, stop, Means(halfway=path))
    record = run_trial(bf16, means=Means(halfway=path))
    assert record.run["resumed_at"] == 2
    assert record.status == "done"
    whole = run_trial(bf16)
    assert record.result["selections"] == whole.result["selections"]
    assert record.inputs["protocol"]["precision"] == "bf16"
    assert whole.result["selections"] != run_trial(replace(fp32, seed=0)).result["selections"]


def test_precision_by_option(program: Program, tmp_path: Path) -> None:
    one = ("--suite", "smoke", "--scale", "test", "--method", "frozen", "--task", "fbp_cs", "--results", tmp_path)
    keys = [program("plan", *one, *more).text for more in ((), ("--precision", "bf16"), ("--precision", "fp32"))]
    assert trial_of("frozen").key in keys[0]
    assert trial_of("frozen", "protocol.precision=bf16").key in keys[1]
    assert keys[2] == keys[0]
    assert_refused(program("plan", *one, "--precision", "fp8"), "fp8")
    both = ("--precision", "fp32", "--set", "protocol.precision=bf16")
    assert_refused(program("plan", *one, *both), "--precision fp32 and --set protocol.precision=bf16", "one of them")


def test_without_a_gpu_the_papers_scale_trains_in_fp32() -> None:
    def precisions(*, gpu: bool, **given: Any) -> set[str]:
        asked = Request(suite="smoke", scale="paper", tasks=["fbp_cs"], methods=["frozen"], gpu=gpu, **given)
        return {prospect.trial.protocol.precision for prospect in foresee(asked)}

    assert precisions(gpu=True) == {"bf16"}
    assert precisions(gpu=False) == {"fp32"}
    assert precisions(gpu=False, settings=["protocol.precision=bf16"]) == {"bf16"}
