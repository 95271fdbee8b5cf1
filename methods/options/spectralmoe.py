"""Options of SpectralMoE, its presets and its published ablations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from methods.options.base import Options, at_least, nearest, published

Gating = Literal["dot", "l1", "l2", "l2sq"]
_GATING_WORDS = {
    "paper": {"laplace": "l1", "gaussian": "l2", "softmax": "dot"},
    "released": {"laplace": "l2", "gaussian": "l2sq", "softmax": "dot"},
}
"""What the published words mean: the released code computes another distance than the equations."""

_RELEASED: Mapping[str, object] = MappingProxyType(
    {
        "gating": "l2",
        "combine": "logsumexp",
        "fusion": "diagonal",
        "token_attention": "channel_sums",
        "drop_first_token": True,
        "aux_weight": 1000.0,
        "aux_reduction": "sum",
        "prototype_std": 0.0,
    }
)

_VARIANTS: dict[str, Mapping[str, object]] = {
    # Tab. 4
    "without_moe": {"experts": 1, "top_k": 1, "router": "none"},
    "without_dual_gating": {"router": "shared"},
    "without_depth": {"depth": False, "fusion": "none"},
    "without_cross_attention": {"fusion": "add"},
    # Tab. 5, 6, 7
    **{f"gating_{word}": {"gating": word} for word in ("softmax", "gaussian", "laplace")},
    **{f"top_{k}": {"top_k": k} for k in (1, 2, 3, 4, 5)},
    **{f"rank_{rank}": {"rank": rank} for rank in (4, 8, 16, 32, 64)},
    # Fig. 5 and 8, whose numbers on the axes are partly our guess
    **{f"experts_{count}": {"experts": count} for count in (1, 2, 4, 6, 8, 10, 12)},
    **{f"tokens_{count}": {"tokens": count} for count in (25, 50, 100, 150, 200, 250)},
}


@dataclass(frozen=True, kw_only=True)
class SpectralMoEOptions(Options):
    """SpectralMoE: mixture of low-rank token experts on visual and depth features. Defaults are the preset `paper`.

    Args:
        experts: number of experts Ne.
        top_k: experts active per token.
        rank: inner width of the low-rank tokens.
        tokens: adaptive tokens per expert m; 0 for as many as the scale's head has queries. The head follows.
        gating: router logits: dot product, or minus the L1, L2 or squared L2 distance to the prototypes (Eq. 1). Also
            the published words `laplace`, `gaussian`, `softmax`, which mean what the preset's source computes.
        combine: gate-weighted sum (Eq. 5), or the released log-sum-exp that ignores the gates.
        fusion: `full` Eq. 6, `diagonal` as released, `add`, `self` (Eq. 6 with visual adjustments in both roles), or
            `none` (visual adjustment only).
        token_attention: true dot product (Eq. 3), or the released product of channel sums.
        drop_first_token: leave token 0 out of the value sum, as released.
        load: what the balancing loss counts.
        aux_weight: factor of the balancing loss (lambda of Eq. 9; 1000 as released).
        aux_reduction: mean (Eq. 9b) or sum over the two modalities.
        prototype_std: spread of the initial prototypes; 0 as released.
        scale_init: first value of alpha in Eq. 7.
        noise: noisy routing in training (Eq. 1).
        router: one for each modality (`dual`), one for both (`shared`: each token by its own logits), one whose choice
            for a visual token also holds for the depth token in its place (`follow`), or `none` with a single expert.
        depth: read the depth encoder (off: ablation "w/o depth").
        depth_projection: a linear layer that brings depth tokens to the encoder's width, only where widths differ or
            always.
    """

    name = "spectralmoe"
    title = "SpectralMoE"
    paper = "SpectralMoE: spectral mixture of experts with depth for DGSS of remote-sensing images"
    version = 3  # tokens by their ranks, which rounds otherwise; 2: dispatch by expert, released combination in fp32
    published_m = published(5.74, 10.29)
    ports = MappingProxyType({"paper": "from_paper", "released": "vector_checked"})
    presets = MappingProxyType({"paper": MappingProxyType({}), "released": _RELEASED})
    variants = MappingProxyType(_VARIANTS)

    preset: str = "paper"
    experts: int = 6
    top_k: int = 1
    rank: int = 16
    tokens: int = 0
    gating: Gating = "l1"
    combine: Literal["weighted", "logsumexp"] = "weighted"
    fusion: Literal["full", "diagonal", "add", "self", "none"] = "full"
    token_attention: Literal["dot", "channel_sums"] = "dot"
    drop_first_token: bool = False
    load: Literal["importance+load", "importance"] = "importance+load"
    aux_weight: float = 0.01
    aux_reduction: Literal["mean", "sum"] = "mean"
    prototype_std: float = 0.02
    scale_init: float = 0.001
    noise: bool = True
    router: Literal["dual", "shared", "follow", "none"] = "dual"
    depth: bool = True
    depth_projection: Literal["if_needed", "always"] = "if_needed"

    @classmethod
    def translated(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """A published word for the gating becomes the distance that the preset's source computes."""
        words = _GATING_WORDS[values.get("preset", cls.preset)]
        gating = str(values.get("gating", cls.gating))
        if gating not in words and gating not in get_args(Gating):
            raise ValueError(f"unknown spectralmoe.gating={gating}{nearest(gating, [*get_args(Gating), *words])}")
        return {**values, "gating": words.get(gating, gating)}

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        for name, least in (("experts", 1), ("top_k", 1), ("rank", 1), ("tokens", 0)):
            at_least(f"spectralmoe.{name}", getattr(self, name), least)
        if self.top_k > self.experts:
            raise ValueError(
                f"spectralmoe.top_k={self.top_k} exceeds spectralmoe.experts={self.experts}: choose top_k <= experts"
            )
        if self.router == "none" and self.experts > 1:
            raise ValueError(
                f"spectralmoe.router=none chooses among no experts={self.experts}: set spectralmoe.experts=1"
            )
        visual_only = self.fusion in ("self", "none")
        if not self.depth and not visual_only:
            raise ValueError(
                f"spectralmoe.depth=false leaves nothing to fuse by fusion={self.fusion}: set spectralmoe.fusion=none "
                f"or self"
            )
        if self.depth and visual_only and self.router in ("follow", "none"):
            raise ValueError(
                f"with spectralmoe.fusion={self.fusion} and router={self.router} nothing reads the depth tokens: set "
                f"spectralmoe.depth=false"
            )

    @property
    def needs_depth(self) -> bool:
        """Whether the depth encoder is read."""
        return self.depth

    @property
    def head_queries(self) -> int | None:
        """As many as there are tokens, whether they are linked or the head is to be comparable."""
        return self.tokens or None
