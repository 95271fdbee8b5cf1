"""The method itself: parameters, what happens after a block, linked queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from methods.base import EncoderSpec, Method, Queries
from methods.loading import load_exactly
from methods.options import SpectralMoEOptions
from methods.parts import QueryLink, wide
from methods.spectralmoe.experts import Tokens, adjust, fuse
from methods.spectralmoe.released import TITLE, read_sizes, read_state
from methods.spectralmoe.router import DEPTH, VISUAL, Routing, imbalance, route, send_all


class SpectralMoE(Method):
    """Token experts shared by both modalities, a router for each, and depth-guided fusion (SpectralMoE Eq. 1-11)."""

    Options = SpectralMoEOptions
    identity_at_init = False
    no_weight_decay = ("experts_a", "experts_b", "gate", "noise", "scale")

    def __init__(self, spec: EncoderSpec, options: SpectralMoEOptions) -> None:
        """A Kaiming-uniform and B zero, so all tokens start at 0; prototypes normal, no noise but its floor."""
        super().__init__(spec, options)
        self.options = options
        width, experts, rank = spec.width, options.experts, options.rank
        bound = 1 / math.sqrt(rank)
        tokens = options.tokens or spec.queries
        self.experts_a = nn.Parameter(torch.empty(spec.blocks, experts, tokens, rank).uniform_(-bound, bound))
        self.experts_b = nn.Parameter(torch.zeros(spec.blocks, experts, rank, width))
        self.routers = _routers(options)
        if self.routers:
            shape = (spec.blocks, self.routers, width, experts)
            self.gate = nn.Parameter(torch.randn(shape) * options.prototype_std)
            self.noise = nn.Parameter(torch.zeros(shape))
        self.may_be_unused = _unused(options)
        self.token_to_feature = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        nn.init.kaiming_uniform_(self.token_to_feature.weight, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.output.weight, a=math.sqrt(5))
        self.scale = nn.Parameter(torch.tensor(options.scale_init))
        self.link = QueryLink(width, spec.query_width) if spec.linked else None
        self.depth_projection: nn.Module = nn.Identity()
        if _projects(spec, options):
            self.depth_projection = nn.Linear(spec.depth_width, width)

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """f' = f + alpha MLP(Df + f) (Eq. 7) and the layer's weighted balancing loss (Eq. 9)."""
        streams = [x_BND]
        if self.options.depth:
            assert depth_BMD is not None, "the harness pairs depth tokens with every method that needs them"
            streams.append(self.depth_projection(depth_BMD.to(x_BND.dtype)))
        with torch.autocast(x_BND.device.type, enabled=False):
            routings = self._routings(streams, layer)
            losses = torch.stack([imbalance(routing, self.options.load) for routing in routings])
        for modality, routing in zip(("visual", "depth"), routings, strict=False):
            self.observe(f"{modality}/{layer}", routing.gates_SE.unflatten(0, x_BND.shape[:2]))
        if self.options.fusion in ("self", "none"):
            streams = streams[:1]
        fused_BND = fuse(self.options.fusion, *self._adjusted(streams, routings, layer))
        reduced = losses.mean() if self.options.aux_reduction == "mean" else losses.sum()
        shift_BND = self.output((fused_BND + x_BND).to(self.output.weight.dtype))
        return x_BND + self.scale * shift_BND, self.options.aux_weight * reduced

    def route(self, x_SD: Tensor, layer: int, modality: int) -> Routing:
        """Where tokens [S, D] of a modality go after a block (Eq. 1-2)."""
        if not self.routers:
            return send_all(x_SD)
        router = min(modality, self.routers - 1)
        noisy = self.training and self.options.noise
        gate_DE, noise_DE = wide(self.gate[layer, router]), wide(self.noise[layer, router])
        return route(x_SD, gate_DE, noise_DE, self.options, noisy)

    def _routings(self, streams: Sequence[Tensor], layer: int) -> list[Routing]:
        if self.options.router == "follow":
            return [self.route(wide(streams[VISUAL].flatten(0, 1)), layer, VISUAL)] * len(streams)
        pairs = zip(streams, (VISUAL, DEPTH), strict=False)
        return [self.route(wide(x_BND.flatten(0, 1)), layer, modality) for x_BND, modality in pairs]

    def _adjusted(self, streams: Sequence[Tensor], routings: Sequence[Routing], layer: int) -> list[Tensor]:
        """Adjustments of every stream by the experts that the modalities share (Eq. 3-5)."""
        tokens = Tokens.of(self.experts_a[layer], self.experts_b[layer], self.token_to_feature)
        gates = [routing.gates_SE for routing, _ in zip(routings, streams, strict=False)]
        flat = [x_BND.flatten(0, 1) for x_BND in streams]
        adjusted = adjust(flat, gates, tokens, self.options)
        return [part_SD.unflatten(0, x_BND.shape[:2]) for part_SD, x_BND in zip(adjusted, streams, strict=True)]

    def queries(self) -> Queries | None:
        """Query positions linked from the experts' mean tokens; the content stays the head's own."""
        if self.link is None:
            return None
        tokens_LTD = torch.einsum("letr,lerd->ltd", self.experts_a, self.experts_b) / self.options.experts
        return Queries(position_QC=self.link(tokens_LTD), replace_content=False)

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor], encoder_spec: EncoderSpec, **options: Any) -> Self:
        """Read a released `DepthMoE` state dict; experts, rank and tokens are read off its shapes.

        Args:
            state_dict: the released tensors.
            encoder_spec: the encoder they were trained on.
            options: ours; `gating` may be the released word (`laplace`, `gaussian`, `softmax`).
        """
        sizes = read_sizes(state_dict, encoder_spec.queries)
        chosen = SpectralMoEOptions.make({"preset": "released", **sizes, **options})
        method = cls(encoder_spec, chosen)
        state = read_state(state_dict, encoder_spec.blocks, chosen.experts, method.routers, encoder_spec.linked)
        load_exactly(method, state, TITLE)
        return method

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: SpectralMoEOptions) -> int:
        """L Ne r (m + D) + routers + 2 (D^2 + D) + link + 1 (sheet, section 4.1), and a depth projection if needed."""
        d, experts = spec.width, options.experts
        tokens = spec.blocks * experts * options.rank * ((options.tokens or spec.queries) + d)
        link = QueryLink.count(d, spec.query_width) if spec.linked else 0
        projection = (spec.depth_width + 1) * d if _projects(spec, options) else 0
        return tokens + 2 * _routers(options) * spec.blocks * d * experts + 2 * (d * d + d) + link + projection + 1


def _routers(options: SpectralMoEOptions) -> int:
    if options.router == "none":
        return 0
    return 2 if options.depth and options.router == "dual" else 1


def _projects(spec: EncoderSpec, options: SpectralMoEOptions) -> bool:
    return options.depth and (spec.depth_width != spec.width or options.depth_projection == "always")


def _unused(options: SpectralMoEOptions) -> tuple[str, ...]:
    """Without noise nothing depends on its spread; of a single expert's gates nothing does where no gate is used."""
    if options.router == "none":
        return ()
    if options.experts == 1 and options.combine == "logsumexp":
        return ("gate", "noise")
    return () if options.noise else ("noise",)
