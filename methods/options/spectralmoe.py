"""Options of SpectralMoE."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from methods.options.base import Options, at_least, published


@dataclass(frozen=True, kw_only=True)
class SpectralMoEOptions(Options):
    """SpectralMoE: mixture of low-rank token experts on visual and depth features. Defaults are the preset `paper`.

    Args:
        experts: number of experts Ne.
        top_k: experts active per token.
        rank: inner width of the low-rank tokens.
        gating: router logits: dot product, or minus the L1, L2 or squared L2 distance to the prototypes (Eq. 1).
        combine: gate-weighted sum (Eq. 5), or the released log-sum-exp that ignores the gates.
        fusion: `full` Eq. 6, `diagonal` as released, `add`, or `none` (visual adjustment only).
        token_attention: true dot product (Eq. 3), or the released product of channel sums.
        drop_first_token: leave token 0 out of the value sum, as released.
        load: what the balancing loss counts.
        aux_weight: factor of the balancing loss (lambda of Eq. 9; 1000 as released).
        aux_reduction: mean (Eq. 9b) or sum over the two modalities.
        prototype_std: spread of the initial prototypes; 0 as released.
        scale_init: first value of alpha in Eq. 7.
        noise: noisy routing in training (Eq. 1).
        shared_router: one router for both modalities (ablation "w/o dual gating").
        depth: read the depth encoder (off: ablation "w/o depth").
    """

    name = "spectralmoe"
    title = "SpectralMoE"
    paper = "SpectralMoE: spectral mixture of experts with depth for DGSS of remote-sensing images"
    published_m = published(5.74, 10.29)
    ports = MappingProxyType({"paper": "from_paper", "released": "vector_checked"})
    presets = MappingProxyType(
        {
            "paper": MappingProxyType({}),
            "released": MappingProxyType(
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
            ),
        }
    )

    preset: str = "paper"
    experts: int = 6
    top_k: int = 1
    rank: int = 16
    gating: Literal["dot", "l1", "l2", "l2sq"] = "l1"
    combine: Literal["weighted", "logsumexp"] = "weighted"
    fusion: Literal["full", "diagonal", "add", "none"] = "full"
    token_attention: Literal["dot", "channel_sums"] = "dot"
    drop_first_token: bool = False
    load: Literal["importance+load", "importance"] = "importance+load"
    aux_weight: float = 0.01
    aux_reduction: Literal["mean", "sum"] = "mean"
    prototype_std: float = 0.02
    scale_init: float = 0.001
    noise: bool = True
    shared_router: bool = False
    depth: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        at_least("spectralmoe.experts", self.experts, 1)
        at_least("spectralmoe.top_k", self.top_k, 1)
        at_least("spectralmoe.rank", self.rank, 1)
        if self.top_k > self.experts:
            raise ValueError(
                f"spectralmoe.top_k={self.top_k} exceeds spectralmoe.experts={self.experts}: choose top_k <= experts"
            )
        if not self.depth and self.fusion != "none":
            raise ValueError(
                f"spectralmoe.depth=false leaves nothing to fuse by fusion={self.fusion}: set spectralmoe.fusion=none"
            )

    @property
    def needs_depth(self) -> bool:
        """Whether the depth encoder is read."""
        return self.depth
