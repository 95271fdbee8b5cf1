"""Options of the baselines and of generic PEFT methods."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from methods.options.base import Options, at_least, probability, published


@dataclass(frozen=True, kw_only=True)
class FrozenOptions(Options):
    """The frozen baseline has nothing to set."""

    name = "frozen"
    baseline = True
    links_queries = False
    title = "Frozen"
    paper = "linear-probe style baseline: frozen backbone, trained head"
    published_m = published(0.0, 0.0)
    ports = MappingProxyType({"default": "from_paper"})


@dataclass(frozen=True, kw_only=True)
class LoraOptions(Options):
    """Low-rank adaptation.

    Args:
        rank: inner width r of each pair of factors.
        alpha: scale numerator; the update is multiplied by alpha / rank. 0 means alpha = rank.
        dropout: on the input of the factors.
        target: which linear layers of a block get factors.
    """

    name = "lora"
    links_queries = False
    title = "LoRA"
    paper = "Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022"
    published_m = MappingProxyType({"dinov3": 0.79, "dofa": 0.79})
    ports = MappingProxyType({"default": "inferred"})

    rank: int = 8
    alpha: int = 0
    dropout: float = 0.0
    target: Literal["qv", "qkv_fused", "qkvo"] = "qv"

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        at_least("lora.rank", self.rank, 1)
        at_least("lora.alpha", self.alpha, 0)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout={self.dropout}: must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class AdaptFormerOptions(Options):
    """Bottleneck adapters beside the MLPs.

    Args:
        bottleneck: inner width of a branch.
        norm: whether a branch normalises its input by a trainable layer norm of its own.
        scale: factor of a branch; with `learnable_scale` only its first value (there the reference code starts at 1).
        learnable_scale: train one factor per block.
        dropout: after the ReLU.
    """

    name = "adaptformer"
    links_queries = False
    title = "AdaptFormer"
    paper = "Chen et al., AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition, NeurIPS 2022"
    published_m = MappingProxyType({"dinov3": 3.22, "dofa": 3.22})
    ports = MappingProxyType({"default": "from_paper"})

    bottleneck: int = 64
    norm: Literal["in", "none"] = "in"
    scale: float = 0.1
    learnable_scale: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot be built, or would do nothing."""
        at_least("adaptformer.bottleneck", self.bottleneck, 1)
        probability("adaptformer.dropout", self.dropout)
        if self.scale <= 0:
            raise ValueError(f"adaptformer.scale={self.scale}: must be above 0")


@dataclass(frozen=True, kw_only=True)
class VptOptions(Options):
    """Visual prompt tuning, deep.

    Args:
        prompts: learned prompts per block.
        dropout: on the prompts.
        init: spread of the first prompts: the paper's, or the about ten times smaller Xavier of a [1, P, D] tensor.
    """

    name = "vpt"
    links_queries = False
    title = "VPT"
    paper = "Jia et al., Visual Prompt Tuning, ECCV 2022"
    published_m = MappingProxyType({"dinov3": 3.69, "dofa": 3.69})
    ports = MappingProxyType({"default": "from_paper"})

    prompts: int = 150
    dropout: float = 0.0
    init: Literal["official", "xavier"] = "official"

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        at_least("vpt.prompts", self.prompts, 1)
        probability("vpt.dropout", self.dropout)


@dataclass(frozen=True, kw_only=True)
class FullOptions(Options):
    """Full fine-tuning has nothing to set. The backbone learns at a tenth of the head's rate, a customary choice."""

    name = "full"
    links_queries = False
    title = "Full fine-tuning"
    paper = "reference: the whole backbone trains"
    lr_scale = 0.1
    ports = MappingProxyType({"default": "inferred"})


@dataclass(frozen=True, kw_only=True)
class DepthAddOptions(Options):
    """The depth control has nothing to set."""

    name = "depth_add"
    title = "Depth added"
    paper = "control of this project: what is the depth cue worth?"
    control = True
    links_queries = False
    ports = MappingProxyType({"default": "author_checked"})

    @property
    def needs_depth(self) -> bool:
        """Always."""
        return True
