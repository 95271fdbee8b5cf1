"""SpectralMoE against its equations, written out once more as loops over single tokens, and its documented traits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from methods.base import EncoderSpec
from methods.spectralmoe import DEPTH, VISUAL, SpectralMoE
from tests.adapters import SPEC as WIDER
from tests.adapters import assert_works_in_bf16
from tests.models import SPEC, spectralmoe_by_hand

EXPERTS = 4


def combinations(**choices: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(zip(choices, chosen, strict=True)) for chosen in product(*choices.values())]


def make(spec: EncoderSpec = SPEC, **options: Any) -> SpectralMoE:
    torch.manual_seed(0)
    return SpectralMoE(spec, SpectralMoE.Options.make({"experts": EXPERTS, "rank": 2} | options)).double()


def drawn(**options: Any) -> SpectralMoE:
    """A method in evaluation mode with every parameter drawn anew."""
    method = make(**options).eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.7)
    return method


def tokens(seed: int, count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, SPEC.width, dtype=torch.float64, generator=generator)


# --- The equations


def agrees(method: SpectralMoE) -> None:
    visual, depth = tokens(1), tokens(2)
    tolerance = 1e-5 if method.options.combine == "logsumexp" else 1e-9  # the released sum is in float32
    for layer in (0, 2):
        out, aux = method.refine(visual, layer, depth if method.options.depth else None)
        expected, expected_aux = spectralmoe_by_hand(method, layer, visual, depth)
        np.testing.assert_allclose(out.detach().numpy(), expected, rtol=0, atol=tolerance)
        assert aux.item() == pytest.approx(expected_aux, rel=1e-6, abs=1e-12), "losses are in float32"


@pytest.mark.parametrize(
    "options",
    combinations(
        gating=("dot", "l1", "l2", "l2sq"),
        top_k=(1, 2, 3, EXPERTS),
        drop_first_token=(False, True),
        token_attention=("dot", "channel_sums"),
    ),
    ids=str,
)
def test_equations(options: dict[str, Any]) -> None:
    agrees(drawn(**options))


@pytest.mark.parametrize(
    "options",
    [
        *combinations(fusion=("full", "diagonal", "add", "self", "none"), router=("dual", "shared")),
        *combinations(fusion=("full", "diagonal", "add"), router=("follow",)),
        *combinations(fusion=("self", "none"), router=("dual", "shared", "follow"), depth=(False,)),
    ],
    ids=str,
)
def test_fusion_and_routers(options: dict[str, Any]) -> None:
    agrees(drawn(top_k=2, **options))


@pytest.mark.parametrize(
    "options",
    combinations(router=("dual", "shared", "follow", "none"), combine=("weighted", "logsumexp"))
    + combinations(router=("none",), depth=(False,), fusion=("none", "self")),
    ids=str,
)
def test_a_single_expert(options: dict[str, Any]) -> None:
    method = drawn(experts=1, **options)
    agrees(method)
    assert method.refine(tokens(1), 0, tokens(2))[1].item() == 0, "nothing to balance"


@pytest.mark.parametrize(
    "options",
    combinations(experts=(6,), top_k=(1, 2, 3, 6), combine=("weighted", "logsumexp"), drop_first_token=(False, True)),
    ids=str,
)
def test_few_and_many_experts_for_a_token(options: dict[str, Any]) -> None:
    """Both ways to sum over experts: by dispatch, and as one product over all of them."""
    agrees(drawn(**options))


@pytest.mark.parametrize("combine", ["weighted", "logsumexp"])
def test_a_gate_that_underflows_counts_as_not_chosen(combine: str) -> None:
    method = drawn(experts=6, top_k=3, gating="l2sq", combine=combine)
    with torch.no_grad():
        method.gate.mul_(30)
    gates = method.route(tokens(1).flatten(0, 1), 0, VISUAL).gates_SE
    chosen = (gates > 0).sum(1)
    assert set(chosen.tolist()) >= {1, 2}, "an example in which some gates underflow"
    agrees(method)


@pytest.mark.parametrize(
    "options",
    combinations(preset=("released",), gating=("laplace", "gaussian", "softmax"), top_k=(1, 2, 3), experts=(3, 6))
    + combinations(preset=("released",), gating=("softmax",), top_k=(6,), experts=(6,), tokens=(7,)),
    ids=str,
)
def test_released(options: dict[str, Any]) -> None:
    agrees(drawn(**options))


@pytest.mark.parametrize(
    "options",
    combinations(load=("importance", "importance+load"), aux_reduction=("mean", "sum"), aux_weight=(0.01, 1000.0)),
    ids=str,
)
def test_auxiliary_loss(options: dict[str, Any]) -> None:
    agrees(drawn(top_k=2, **options))


def test_without_depth_the_visual_adjustment_stands_alone() -> None:
    method = drawn(top_k=2, depth=False, fusion="none", aux_reduction="sum")
    visual = tokens(1)
    with torch.no_grad():
        both = drawn(top_k=2, fusion="none")
        for name, parameter in method.named_parameters():
            both.get_parameter(name).copy_(
                parameter if name not in ("gate", "noise") else parameter.expand(-1, 2, -1, -1)
            )
        torch.testing.assert_close(method.refine(visual, 1)[0], both.refine(visual, 1, tokens(2))[0], rtol=0, atol=0)
        same = both.refine(visual, 1, visual)[1]
        torch.testing.assert_close(method.refine(visual, 1)[1], same, rtol=1e-12, atol=0)


# --- Traits of the two presets


@pytest.mark.parametrize("top_k", [2, 3, 6])
def test_equal_experts_are_offset_by_log_k_under_logsumexp(top_k: int) -> None:
    one, many = (drawn(preset="released", experts=6, fusion="none", top_k=k) for k in (1, top_k))
    with torch.no_grad():
        for method in (one, many):
            method.experts_a.copy_(method.experts_a[:, :1].expand_as(method.experts_a))
            method.experts_b.copy_(method.experts_b[:, :1].expand_as(method.experts_b))
            method.output.weight.copy_(torch.eye(SPEC.width))
            method.scale.fill_(1)
        offset = many.refine(tokens(1), 0, tokens(2))[0] - one.refine(tokens(1), 0, tokens(2))[0]
    torch.testing.assert_close(offset, torch.full_like(offset, math.log(top_k)), rtol=0, atol=1e-6)


def test_released_and_paper_combine_alike_for_one_expert() -> None:
    a, b = drawn(top_k=1), drawn(top_k=1, combine="logsumexp")
    same = a.refine(tokens(1), 0, tokens(2))[0], b.refine(tokens(1), 0, tokens(2))[0]
    torch.testing.assert_close(*same, rtol=0, atol=1e-5)


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize(("delta", "combined"), [(-1000.0, math.log(2.220446e-16)), (-40.0, -40.0), (90.0, None)])
def test_the_released_sum_underflows_to_its_floor_and_overflows(
    top_k: int, delta: float, combined: float | None
) -> None:
    method = drawn(combine="logsumexp", fusion="none", top_k=top_k)
    with torch.no_grad():
        method.token_to_feature.weight.zero_()
        method.token_to_feature.bias.fill_(delta)
        method.output.weight.copy_(torch.eye(SPEC.width))
        method.output.bias.zero_()
        method.scale.fill_(1)
        moved = method.refine(tokens(1), 0, tokens(2))[0] - 2 * tokens(1)
    if combined is None:
        assert not torch.isfinite(moved).any()
        return
    shift = math.log(top_k) if combined == delta else 0
    torch.testing.assert_close(moved, torch.full_like(moved, combined + shift), rtol=0, atol=1e-4)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_at_top_1_only_the_load_trains_the_router(preset: str) -> None:
    for part in (0, 1):
        method = make(preset=preset, prototype_std=0.1).train()
        torch.manual_seed(1)
        method.refine(tokens(1), 0, tokens(2))[part].square().sum().backward()
        for router in (method.gate, method.noise):
            trained = router.grad is not None and bool(router.grad[0].any())
            assert trained == (part == 1)


def test_at_top_2_the_task_trains_the_paper_router_and_not_the_released() -> None:
    for preset, expected in (("paper", True), ("released", False)):
        method = drawn(preset=preset, top_k=2)
        method.refine(tokens(1), 0, tokens(2))[0].square().sum().backward()
        assert (method.gate.grad is not None and bool(method.gate.grad.any())) == expected


def test_the_router_of_the_paper_preset_learns_with_default_options() -> None:
    torch.manual_seed(0)
    method = SpectralMoE(SPEC, SpectralMoE.Options()).train()
    x, aux = method.refine(tokens(1).float(), 1, tokens(2).float())
    (x.square().sum() + aux).backward()
    for router in (method.gate, method.noise):
        for modality in (VISUAL, DEPTH):
            assert router.grad[1, modality].any(), "by the load loss alone: top-1 gates are constant"


UNUSED = [
    *combinations(router=("dual", "shared", "follow"), noise=(False, True)),
    *combinations(preset=("paper", "released"), top_k=(1, 2, EXPERTS), noise=(False, True)),
    *combinations(experts=(1,), router=("dual", "none"), combine=("weighted", "logsumexp"), noise=(False, True)),
    *combinations(load=("importance",), combine=("weighted", "logsumexp")),
    *combinations(depth=(False,), fusion=("none", "self"), depth_projection=("if_needed", "always")),
    *combinations(fusion=("none", "self"), depth_projection=("always",)),
]


@pytest.mark.parametrize("options", UNUSED, ids=str)
def test_a_gradient_comes_exactly_where_declared(options: dict[str, Any]) -> None:
    method = make(**options).train()
    loss = method.queries().position_QC.sum()
    for layer in range(SPEC.blocks):
        loss = loss + sum(part.sum() for part in method.refine(tokens(1), layer, tokens(2)))
    loss.backward()
    unused = {name for name, parameter in method.named_parameters() if parameter.grad is None}
    assert unused == set(method.may_be_unused)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_first_step_moves_experts_b_and_not_a(preset: str) -> None:
    method = make(preset=preset).train()
    x, aux = method.refine(tokens(1), 0, tokens(2))
    (x.square().sum() + aux + method.queries().position_QC.square().sum()).backward()
    assert method.experts_a.grad is not None
    assert not method.experts_a.grad.any()
    assert method.experts_b.grad[0].any()


def test_query_rows_are_identical_at_init_and_linked_from_the_mean_over_experts() -> None:
    method = make()
    rows = method.queries().position_QC
    assert rows.shape == (SPEC.queries, SPEC.query_width)
    torch.testing.assert_close(rows, rows[:1].expand_as(rows), rtol=0, atol=1e-12)
    method = drawn()
    T = torch.stack([(method.experts_a[layer] @ method.experts_b[layer]).mean(0) for layer in range(SPEC.blocks)])
    linked = method.link.transform(T)
    statistics = torch.stack([linked.max(0).values, linked.mean(0), linked[-1]], dim=-1).flatten(1)
    torch.testing.assert_close(method.queries().position_QC, method.link.merge(statistics))
    assert not method.queries().replace_content
    assert SpectralMoE(replace(SPEC, linked=False), method.options).queries() is None


def test_untouched_released_gates_tie_and_cost_24000_in_evaluation() -> None:
    method = make(preset="released", experts=6).eval()
    for layer in range(SPEC.blocks):
        assert method.refine(tokens(1), layer, tokens(2))[1].item() == pytest.approx(24000, rel=1e-6)


def test_noise_acts_in_training_only() -> None:
    method = drawn(top_k=2)
    visual, depth = tokens(1, count=50), tokens(2, count=50)
    clean = method.refine(visual, 0, depth)[0]
    assert torch.equal(method.refine(visual, 0, depth)[0], clean)
    assert not torch.equal(method.train().refine(visual, 0, depth)[0], clean)
    assert torch.equal(drawn(top_k=2, noise=False).train().refine(visual, 0, depth)[0], clean)


@pytest.mark.parametrize("top_k", [1, 2])
def test_smooth_load_is_the_chance_to_be_chosen_under_fresh_noise(top_k: int) -> None:
    method = drawn(top_k=top_k, gating="dot").train().requires_grad_(False)
    x = tokens(3, count=2).flatten(0, 1)
    torch.manual_seed(5)
    load = method.route(x, 1, DEPTH).load_E
    torch.manual_seed(5)
    clean = x @ method.gate[1, DEPTH]
    spread = torch.nn.functional.softplus(x @ method.noise[1, DEPTH]) + 0.01
    held = clean + torch.randn_like(clean) * spread
    fresh = torch.randn(40_000, *clean.shape, dtype=torch.float64)
    chance = torch.zeros(EXPERTS, dtype=torch.float64)
    for token in range(len(x)):
        for expert in range(EXPERTS):
            others = [float(held[token, e]) for e in range(EXPERTS) if e != expert]
            bar = sorted(others, reverse=True)[top_k - 1]
            tried = clean[token, expert] + fresh[:, token, expert] * spread[token, expert]
            chance[expert] += (tried > bar).double().mean()
    torch.testing.assert_close(load, chance, rtol=0, atol=0.02)
    assert load.std() > 0.1, "an example in which experts differ"
    method.gate.zero_()
    method.noise.fill_(-1e6)
    assert torch.isfinite(method.route(x.abs(), 1, DEPTH).load_E).all(), "softplus vanishes, its floor stays"


@pytest.mark.parametrize("gating", ["dot", "l1", "l2", "l2sq"])
@pytest.mark.parametrize("top_k", [1, 2, EXPERTS])
def test_gates_are_the_softmax_over_the_largest_noisy_logits(gating: str, top_k: int) -> None:
    method = drawn(gating=gating, top_k=top_k).train()
    x, w = tokens(3).flatten(0, 1), method.gate[1, DEPTH].T
    torch.manual_seed(5)
    gates = method.route(x, 1, DEPTH).gates_SE
    torch.manual_seed(5)
    difference = x[:, None] - w
    distance = {
        "dot": (x[:, None] * w).sum(-1),
        "l1": -difference.abs().sum(-1),
        "l2": -difference.square().sum(-1).sqrt(),
        "l2sq": -difference.square().sum(-1),
    }
    spread = torch.nn.functional.softplus(x @ method.noise[1, DEPTH]) + 0.01
    h = distance[gating] + torch.randn_like(spread) * spread
    for row, expected in zip(gates, h, strict=True):
        best = expected.argsort(descending=True)[:top_k]
        weights = expected[best].exp() / expected[best].exp().sum()
        torch.testing.assert_close(row, torch.zeros_like(row).scatter(0, best, weights), rtol=0, atol=1e-9)


def test_a_following_depth_token_goes_where_the_visual_one_in_its_place_goes() -> None:
    """Experts that write their number and nothing else: what depth adds tells where it went."""
    numbers = torch.arange(1.0, EXPERTS + 1, dtype=torch.float64)
    added = {}
    for router in ("follow", "shared"):
        method = drawn(router=router, fusion="add", drop_first_token=False)
        with torch.no_grad():
            method.experts_a.fill_(1)
            method.experts_b.zero_()
            method.experts_b[:, :, 0] = numbers[:, None]
            for linear in (method.token_to_feature, method.output):
                linear.weight.copy_(torch.eye(SPEC.width))
                linear.bias.zero_()
            method.scale.fill_(1)
            added[router] = method.refine(tokens(1), 0, tokens(2))[0] - 2 * tokens(1)
            visual = method.route(tokens(1).flatten(0, 1), 0, VISUAL).gates_SE @ numbers
    torch.testing.assert_close(added["follow"][..., 0].flatten(), 2 * visual)
    assert not torch.allclose(added["shared"], added["follow"])


# --- Precision and compilation


@pytest.mark.parametrize("options", combinations(preset=("paper", "released"), top_k=(1, 3)), ids=str)
def test_bf16_agrees_with_float32(options: dict[str, Any]) -> None:
    method = drawn(scale_init=1.0, **options).float()
    visual, depth = tokens(1, count=20).float(), tokens(2, count=20).float()
    changes, gradients = [], []
    for enabled in (False, True):
        method.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out, aux = method.refine(visual, 0, depth)
        assert out.dtype == torch.float32
        ((out - visual).square().mean() + aux).backward()
        changes.append((out - visual).detach())
        gradients.append(method.token_to_feature.weight.grad.clone())
    for exact, rounded in (changes, gradients):
        assert ((exact - rounded).norm() / exact.norm()).item() < 0.03


@pytest.mark.parametrize(
    "options",
    [*combinations(preset=("paper", "released"), top_k=(1, 3)), {"depth_projection": "always"}],
    ids=str,
)
def test_works_as_a_module_in_bf16(options: dict[str, Any]) -> None:
    """Routing is in fp32 from rounded prototypes: close, unless a token stands between two experts."""
    assert_works_in_bf16(lambda: make(WIDER, scale_init=0.3, **options), depth=True)


COMPILED = [({"preset": "paper"}, True), ({"preset": "paper", "top_k": 3}, False), ({"preset": "released"}, True)]


@pytest.mark.parametrize(("options", "training"), COMPILED, ids=str)
def test_compiled_agrees_with_eager(options: dict[str, Any], training: bool) -> None:
    method = drawn(**options).train(training)
    torch._dynamo.reset()  # else earlier cases use up the number of recompilations
    compiling = CompileCounterWithBackend("aot_eager")
    results = []
    for refine in (method.refine, torch.compile(method.refine, backend=compiling)):
        method.zero_grad()
        torch.manual_seed(0)
        visual = tokens(1).requires_grad_()
        x, aux = refine(visual, 1, tokens(2))
        (x.square().sum() + aux).backward()
        found = {"x": x.detach(), "aux": aux.detach(), "input": visual.grad}
        results.append(found | {name: p.grad for name, p in method.named_parameters() if p.grad is not None})
    assert compiling.frame_count, "something was compiled"
    assert results[0].keys() == results[1].keys()
    for name, expected in results[0].items():
        torch.testing.assert_close(results[1][name], expected, rtol=1e-6, atol=1e-6, msg=lambda m, n=name: f"{n} {m}")


# --- Named variants


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("variant", SpectralMoE.Options.variants)
def test_every_variant_runs(variant: str, preset: str) -> None:
    options = {"preset": preset, "variant": variant}
    method = SpectralMoE(SPEC, SpectralMoE.Options.make(options)).train()
    out, aux = method.refine(tokens(1).float(), 0, tokens(2).float())
    linked = method.queries().position_QC
    assert linked.shape == (method.options.tokens or SPEC.queries, SPEC.query_width)
    (out.square().sum() + aux + linked.sum()).backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_a_variant_stands_between_the_preset_and_what_is_given() -> None:
    make_options = SpectralMoE.Options.make
    assert make_options({"variant": "top_1"}) == make_options({"variant": "experts_6"}) == make_options({})
    chosen = make_options({"preset": "released", "variant": "without_cross_attention", "rank": "8"})
    assert (chosen.fusion, chosen.combine, chosen.rank) == ("add", "logsumexp", 8)
    assert make_options({"preset": "released", "variant": "without_depth", "fusion": "self"}).fusion == "self"
    with pytest.raises(ValueError, match=r"variant=without_deth; did you mean 'without_depth'"):
        make_options({"variant": "without_deth"})


@pytest.mark.parametrize(("word", "paper", "code"), [("laplace", "l1", "l2"), ("gaussian", "l2", "l2sq")])
def test_a_published_gating_means_what_its_source_computes(word: str, paper: str, code: str) -> None:
    for preset, expected in (("paper", paper), ("released", code)):
        for given in ({"gating": word}, {"variant": f"gating_{word}"}):
            assert SpectralMoE.Options.make({"preset": preset, **given}).gating == expected
        assert SpectralMoE.Options.make({"preset": preset, "gating": "softmax"}).gating == "dot"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"router": "none"}, "experts=1"),
        ({"depth": False}, "fusion=none"),
        ({"fusion": "self", "router": "follow"}, "depth=false"),
        ({"gating": "gausian"}, "gaussian"),
        ({"tokens": -1}, "spectralmoe.tokens=-1"),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SpectralMoE.Options.make(options)


def test_an_extra_projection_of_equal_width_stands_before_everything_else() -> None:
    plain, projected = drawn(), drawn(depth_projection="always")
    state = projected.state_dict() | plain.state_dict()
    projected.load_state_dict(state)
    depth = projected.depth_projection(tokens(2))
    torch.testing.assert_close(projected.refine(tokens(1), 0, tokens(2))[0], plain.refine(tokens(1), 0, depth)[0])
    assert not torch.equal(depth, tokens(2))


# --- Reading a released state dict


def released() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    d, q, m, r = SPEC.width, SPEC.query_width, SPEC.queries, 2
    state = {"scale": draw(), "mean": torch.zeros(1), "std": torch.ones(1)}
    for name, out, into in (("mlp_token2feat", d, d), ("mlp_delta_f", d, d), ("transform", q, d), ("merge", q, 3 * q)):
        state |= {f"{name}.weight": draw(out, into), f"{name}.bias": draw(out)}
    for layer in range(SPEC.blocks):
        for e in range(EXPERTS):
            state |= {f"experts_a.{layer}.{e}": draw(m, r), f"experts_b.{layer}.{e}": draw(r, d)}
        for modality in range(2):
            state |= {f"w_{n}.{layer}.{modality}": draw(d, EXPERTS) for n in ("gate", "noise")}
    return state


def test_from_released_reads_every_tensor() -> None:
    state = released()
    method = SpectralMoE.from_released(state, SPEC, gating="gaussian", top_k=2)
    assert (method.options.preset, method.options.gating, method.options.top_k) == ("released", "l2sq", 2)
    assert torch.equal(method.experts_b[2, 3], state["experts_b.2.3"])
    assert torch.equal(method.noise[1, 1], state["w_noise.1.1"])
    assert torch.equal(method.output.weight, state["mlp_delta_f.weight"])
    for unlinked in (state, {name: t for name, t in state.items() if not name.startswith(("transform", "merge"))}):
        assert SpectralMoE.from_released(unlinked, replace(SPEC, linked=False)).queries() is None
    exact = {name: tensor.double() / 3 for name, tensor in state.items()}
    assert torch.equal(SpectralMoE.from_released(exact, SPEC).experts_b[2, 3], exact["experts_b.2.3"])
    assert SpectralMoE.from_released({n: t.half() for n, t in state.items()}, SPEC).scale.dtype == torch.float32
    assert SpectralMoE.from_released(state, replace(SPEC, queries=9)).options.tokens == SPEC.queries


RESHAPED = {
    "one tensor": lambda n, t: t[1:] if n == "experts_b.1.2" else t,
    "one expert's rank": lambda n, t: t[..., :1] if n == "experts_a.0.0" else t,
    "all of a kind": lambda n, t: t[:-1] if n.startswith("w_gate") else t,
    "a linear layer": lambda n, t: t[:, :-1] if n == "merge.weight" else t,
}
DEFECTS = {
    "a prefix": (lambda s: {f"backbone.depthmoe.{k}": v for k, v in s.items()}, "strip 'backbone.depthmoe.' from"),
    "no experts": (lambda s: {k: v for k, v in s.items() if "experts" not in k}, "experts_a"),
    "one name missing": (lambda s: {k: v for k, v in s.items() if k != "w_noise.2.1"}, "missing.*w_noise.2.1"),
    "an unknown name": (lambda s: s | {"backbone.cls_token": torch.zeros(1)}, "unknown.*backbone.cls_token"),
    "a block less": (lambda s: {k: v for k, v in s.items() if ".2." not in k}, "missing.*experts_a.2.0"),
    **{
        f"wrong shape of {kind}": (lambda s, c=change: {k: c(k, v) for k, v in s.items()}, "shape|is \\(|rank")
        for kind, change in RESHAPED.items()
    },
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defective_released_state_is_a_clear_error(defect: str) -> None:
    change, words = DEFECTS[defect]
    with pytest.raises(ValueError, match=words):
        SpectralMoE.from_released(change(released()), SPEC)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gating": "laplac"}, "laplace"),
        ({"preset": "relased"}, "released"),
        ({"topk": 2}, "top_k"),
        ({"top_k": 9}, "top_k"),
    ],
    ids=str,
)
def test_wrong_options_for_a_released_state_are_clear_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SpectralMoE.from_released(released(), SPEC, **options)
