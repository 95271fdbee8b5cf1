"""SpectralMoE: a mixture of low-rank token experts on visual and depth features, after every block.

Preset `paper` computes the paper's equations, preset `released` what the published code computes; they differ in
gating, combination, fusion, token attention and loss (each an option). `released` agrees with vectors of that code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from methods.base import EncoderSpec, Method, Queries, load_exactly, take
from methods.options import SpectralMoEOptions, nearest
from methods.parts import QueryLink, wide

VISUAL, DEPTH = 0, 1
_NOISE_FLOOR = 0.01  # keeps the smooth load finite where softplus vanishes
_GATING_WORDS = {
    "paper": {"laplace": "l1", "gaussian": "l2", "softmax": "dot"},
    "released": {"laplace": "l2", "gaussian": "l2sq", "softmax": "dot"},
}


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Where S tokens go: gates [S, E] (0 where not chosen), chosen experts [S, k], load [E] per expert."""

    gates_SE: Tensor
    chosen_Sk: Tensor
    load_E: Tensor


class SpectralMoE(Method):
    """Token experts shared by both modalities, a router for each, and depth-guided fusion (SpectralMoE Eq. 1-11)."""

    Options = SpectralMoEOptions
    identity_at_init = False
    # with top_k = 1 the gates are constant: without the load loss nothing trains the routers
    may_be_unused = ("gate", "noise")
    no_weight_decay = ("experts_a", "experts_b", "gate", "noise", "scale")

    def __init__(self, spec: EncoderSpec, options: SpectralMoEOptions) -> None:
        """As many tokens per expert as the head has queries; A Kaiming-uniform, B zero, so all tokens start at 0."""
        super().__init__(spec, options)
        self.options = options
        width, experts = spec.width, options.experts
        routers = 2 if options.depth and not options.shared_router else 1
        bound = 1 / math.sqrt(options.rank)
        shape = (spec.blocks, experts, spec.queries, options.rank)
        self.experts_a = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.experts_b = nn.Parameter(torch.zeros(spec.blocks, experts, options.rank, width))
        self.gate = nn.Parameter(torch.randn(spec.blocks, routers, width, experts) * options.prototype_std)
        self.noise = nn.Parameter(torch.zeros(spec.blocks, routers, width, experts))
        self.token_to_feature = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        nn.init.kaiming_uniform_(self.token_to_feature.weight, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.output.weight, a=math.sqrt(5))
        self.scale = nn.Parameter(torch.tensor(options.scale_init))
        self.link = QueryLink(width, spec.query_width) if spec.linked else None
        if options.depth and spec.depth_width != width:
            self.depth_projection: nn.Module = nn.Linear(spec.depth_width, width)
        else:
            self.depth_projection = nn.Identity()

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """f' = f + alpha MLP(Df + f) (Eq. 7) and the layer's weighted balancing loss (Eq. 9)."""
        tokens_ETD = self.experts_a[layer] @ self.experts_b[layer]
        values_ETD = self.token_to_feature(tokens_ETD)
        visual_BND, balance = self._adjust(x_BND, layer, VISUAL, tokens_ETD, values_ETD)
        fused_BND, balances = visual_BND, [balance]
        if self.options.depth:
            assert depth_BMD is not None, "the harness pairs depth tokens with every method that needs them"
            depth_BMD = self.depth_projection(depth_BMD)
            adjusted_BMD, balance = self._adjust(depth_BMD, layer, DEPTH, tokens_ETD, values_ETD)
            fused_BND = self._fuse(visual_BND, adjusted_BMD)
            balances.append(balance)
        reduced = torch.stack(balances).mean() if self.options.aux_reduction == "mean" else torch.stack(balances).sum()
        return x_BND + self.scale * self.output(fused_BND + x_BND), self.options.aux_weight * reduced

    def route(self, x_SD: Tensor, layer: int, modality: int) -> Routing:
        """Noisy top-k routing of tokens [S, D] (Eq. 1-2) with the smooth load of noisy top-k gating."""
        router = 0 if self.gate.shape[1] == 1 else modality
        gate_DE, noise_DE = self.gate[layer, router], self.noise[layer, router]
        k, experts = self.options.top_k, self.options.experts
        clean_SE = self._logits(x_SD, gate_DE)
        noisy = self.training and self.options.noise
        spread_SE = nn.functional.softplus(x_SD @ noise_DE) + _NOISE_FLOOR if noisy else torch.ones_like(clean_SE)
        routed_SE = clean_SE + torch.randn_like(clean_SE) * spread_SE if noisy else clean_SE
        top_Sk1, order_Sk1 = routed_SE.topk(min(k + 1, experts), dim=-1)
        gates_SE = torch.zeros_like(routed_SE).scatter(1, order_Sk1[:, :k], top_Sk1[:, :k].softmax(-1))
        if noisy and k < experts:
            # the bar an expert must clear is the k-th best among the others
            inside_SE = routed_SE > top_Sk1[:, k : k + 1]
            bar_SE = torch.where(inside_SE, top_Sk1[:, k : k + 1], top_Sk1[:, k - 1 : k])
            load_E = torch.special.ndtr((clean_SE - bar_SE) / spread_SE).sum(0)
        else:
            load_E = (gates_SE > 0).sum(0)
        return Routing(gates_SE=gates_SE, chosen_Sk=order_Sk1[:, :k], load_E=load_E)

    def _logits(self, x_SD: Tensor, gate_DE: Tensor) -> Tensor:
        if self.options.gating == "dot":
            return x_SD @ gate_DE
        if self.options.gating == "l1":
            return -torch.cdist(x_SD, gate_DE.T, p=1)
        distance_SE = torch.cdist(x_SD, gate_DE.T, compute_mode="donot_use_mm_for_euclid_dist")
        return -distance_SE if self.options.gating == "l2" else -distance_SE.square()

    def _adjust(
        self, x_BND: Tensor, layer: int, modality: int, tokens_ETD: Tensor, values_ETD: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Expert adjustments [B, N, D] of one modality (Eq. 3-5) and its balancing loss (Eq. 10-11)."""
        x_SD = x_BND.flatten(0, 1)
        with torch.autocast(x_BND.device.type, enabled=False):
            routing = self.route(wide(x_SD), layer, modality)
            balance = _squared_variation(routing.gates_SE.sum(0))
            if self.options.load == "importance+load":
                balance = balance + _squared_variation(routing.load_E)
        if self.options.token_attention == "dot":
            logits_SET = torch.einsum("sd,etd->set", x_SD, tokens_ETD)
        else:
            logits_SET = x_SD.sum(-1)[:, None, None] * tokens_ETD.sum(-1)
        attention_SET = wide(logits_SET / math.sqrt(self.spec.width)).softmax(-1)
        if self.options.drop_first_token:
            attention_SET, values_ETD = attention_SET[..., 1:], values_ETD[:, 1:]
        adjusted_SD = self._combine(attention_SET, values_ETD, routing)
        return adjusted_SD.unflatten(0, x_BND.shape[:2]), balance

    def _combine(self, attention_SET: Tensor, values_ETD: Tensor, routing: Routing) -> Tensor:
        values_XD = values_ETD.flatten(0, 1)
        if self.options.combine == "weighted":
            weights_SX = (attention_SET * routing.gates_SE[..., None]).flatten(1)
            return weights_SX.to(values_XD.dtype) @ values_XD
        deltas = []
        for expert_S in routing.chosen_Sk.unbind(-1):
            one_hot_SE = nn.functional.one_hot(expert_S, self.options.experts)
            delta_SD = wide((attention_SET * one_hot_SE[..., None]).flatten(1).to(values_XD.dtype) @ values_XD)
            # a gate that underflows to exactly 0 counts as not chosen, as released
            chosen_S1 = routing.gates_SE.gather(1, expert_S[:, None]) > 0
            deltas.append(delta_SD.masked_fill(~chosen_S1, -math.inf))
        return torch.stack(deltas).logsumexp(0)

    def _fuse(self, visual_BND: Tensor, depth_BMD: Tensor) -> Tensor:
        fusion, root = self.options.fusion, math.sqrt(self.spec.width)
        if fusion == "none":
            return visual_BND
        if fusion == "add":
            return visual_BND + depth_BMD
        if fusion == "full":
            attention_BNM = wide(visual_BND @ depth_BMD.mT / root).softmax(-1)
            return attention_BNM.to(depth_BMD.dtype) @ depth_BMD
        # released: depth queries visual, and only the diagonal of the attention meets the value
        logits_BMN = wide(depth_BMD @ visual_BND.mT / root)
        diagonal_BN = (logits_BMN.diagonal(dim1=1, dim2=2) - logits_BMN.logsumexp(-1)).exp()
        return diagonal_BN[..., None].to(visual_BND.dtype) * visual_BND

    def queries(self) -> Queries | None:
        """Query positions linked from the experts' mean tokens; the content stays the head's own."""
        if self.link is None:
            return None
        tokens_LTD = torch.einsum("letr,lerd->ltd", self.experts_a, self.experts_b) / self.options.experts
        return Queries(position_QC=self.link(tokens_LTD), replace_content=False)

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor], spec: EncoderSpec, **options: Any) -> Self:
        """Read a released `DepthMoE` state dict.

        Args:
            state_dict: the released tensors.
            spec: the encoder they were trained on.
            options: ours; `gating` may be the released word (`laplace`, `gaussian`, `softmax`).
        """
        preset = options.setdefault("preset", "released")
        if preset not in _GATING_WORDS:
            raise ValueError(f"unknown preset spectralmoe.preset={preset}{nearest(preset, _GATING_WORDS)}")
        words = _GATING_WORDS[preset]
        word = options.get("gating", "laplace")
        if word not in words and word not in words.values():
            raise ValueError(f"unknown gating={word}{nearest(word, words)}")
        experts = sum(name.startswith("experts_a.0.") for name in state_dict)
        if not experts:
            raise ValueError("this is not a released SpectralMoE state dict: it has no experts_a.0.*")
        options |= {"gating": words.get(word, word), "experts": experts, "rank": state_dict["experts_a.0.0"].shape[-1]}
        method = cls(spec, SpectralMoEOptions.make(options))
        inner = {"experts_a": experts, "experts_b": experts, "w_gate": 2, "w_noise": 2}
        grids = {f"{n}.{i}.{j}": f"{n}.{i}.{j}" for n, c in inner.items() for i in range(spec.blocks) for j in range(c)}
        plain = {f"{t}.{p}": o and f"{o}.{p}" for t, o in _linears(spec).items() for p in ("weight", "bias")}
        state = take(state_dict, grids | plain | {"scale": "scale", "mean": "", "std": ""}, "SpectralMoE")
        for name, count in inner.items():
            state[name.removeprefix("w_")] = _stacked(state, name, spec.blocks, count)
        load_exactly(method, state, "SpectralMoE")
        return method

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: SpectralMoEOptions) -> int:
        """L Ne r (m + D) + routers + 2 (D^2 + D) + link + 1 (sheet, section 4.1), and a depth projection if needed."""
        d, experts = spec.width, options.experts
        tokens = spec.blocks * experts * options.rank * (spec.queries + d)
        routers = 2 if options.depth and not options.shared_router else 1
        link = QueryLink.count(d, spec.query_width) if spec.linked else 0
        projection = (spec.depth_width + 1) * d if options.depth and spec.depth_width != d else 0
        return tokens + 2 * routers * spec.blocks * d * experts + 2 * (d * d + d) + link + projection + 1


def _stacked(state: dict[str, Tensor], name: str, blocks: int, count: int) -> Tensor:
    """Take `name.<block>.<j>` out of the state as one tensor [blocks, count, ...]."""
    parts = {f"{name}.{i}.{j}": state.pop(f"{name}.{i}.{j}") for i in range(blocks) for j in range(count)}
    shape = parts[f"{name}.0.0"].shape
    for key, part in parts.items():
        if part.shape != shape:
            raise ValueError(
                f"SpectralMoE: {key} is {tuple(part.shape)}, {name}.0.0 is {tuple(shape)}: they must agree"
            )
    stacked: Tensor = torch.stack(list(parts.values())).unflatten(0, (blocks, count))
    return stacked


def _linears(spec: EncoderSpec) -> dict[str, str]:
    links = {name: f"link.{name}" if spec.linked else "" for name in ("transform", "merge")}
    return {"mlp_token2feat": "token_to_feature", "mlp_delta_f": "output"} | links


def _squared_variation(x_E: Tensor) -> Tensor:
    """Unbiased variance over squared mean, 0 for a single expert (Eq. 10 with the released epsilon)."""
    if x_E.numel() == 1:
        return x_E.new_zeros((), dtype=torch.float32)
    x_E = wide(x_E)
    return x_E.var() / (x_E.mean().square() + 1e-10)
