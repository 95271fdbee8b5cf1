"""Options of methods with learnable tokens: REIN and what followed it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from methods.options.base import Options, Port, at_least, published


@dataclass(frozen=True, kw_only=True)
class ReinOptions(Options):
    """REIN: learnable tokens that refine the patch tokens after every block.

    Args:
        rank: inner width of the low-rank tokens; 0 gives full-rank tokens.
        scale_init: first value of the trainable step size.
        zero_init: start the output layer at zero with the constant step 1 (an exact identity at initialisation).
        replace_content: linked queries also give the head its initial query content.
    """

    name = "rein"
    title = "REIN"
    paper = "Wei et al., Stronger, Fewer, & Superior: Harnessing VFMs for DGSS, CVPR 2024"
    version = 2  # tokens by their ranks, which rounds otherwise
    ports = MappingProxyType({"default": "vector_checked"})
    published_m = published(2.99, 4.51)

    rank: int = 16
    scale_init: float = 0.001
    zero_init: bool = False
    replace_content: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        at_least(f"{self.name}.rank", self.rank, 0)


@dataclass(frozen=True, kw_only=True)
class DepthForgeOptions(ReinOptions):
    """DepthForge: REIN whose patches choose their tokens by visual and depth features together.

    Args:
        refine_maps: the paper's depth refinement decoder (DQCM in its code), a module that changes the finest feature
            map before the head. It counts as head.
    """

    name = "depthforge"
    title = "DepthForge"
    paper = "Chen et al., Stronger, Steadier & Superior: Geometric Consistency in Depth VFM Forges DGSS, ICCV 2025"
    ports = MappingProxyType({"default": "from_paper"})
    published_m = published(2.99, 4.51)

    refine_maps: bool = False

    @property
    def needs_depth(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, kw_only=True)
class SetOptions(Options):
    """SET: one REIN module on the phase and one on the amplitude of the tokens' spectrum.

    Args:
        rank: inner width of the low-rank tokens.
        scale_init: first value of the trainable step size.
        residual: add the change to the tokens, as the released code, or to phase and amplitude, as the paper's figure.
        match_count: add parts that bring the number of parameters to the published one. Their identity is unknown and
            this choice is ours, so the port is `inferred`.
        replace_content: linked queries also give the head its initial query content.
    """

    name = "set"
    title = "SET"
    paper = "Yi et al., Learning Spectral-Decomposed Tokens for Domain Generalized Semantic Segmentation, ACM MM 2024"
    version = 2  # tokens by their ranks, which rounds otherwise
    ports = MappingProxyType({"default": "from_paper", "published_count": "inferred"})
    presets = MappingProxyType({"published_count": MappingProxyType({"match_count": True})})
    published_m = published(6.13, 9.21)

    rank: int = 16
    scale_init: float = 0.001
    residual: Literal["outside", "inside"] = "outside"
    match_count: bool = False
    replace_content: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        at_least("set.rank", self.rank, 1)
        if self.match_count and self.residual == "inside":
            raise ValueError("set.match_count smooths the outside residual: leave set.residual=outside")

    @property
    def port(self) -> Port:
        """Inferred wherever parts of unknown identity are added, whatever the preset."""
        return "inferred" if self.match_count else super().port


@dataclass(frozen=True, kw_only=True)
class FadaOptions(Options):
    """FADA: one REIN module on the low band and one on the three high bands of a Haar transform of the tokens.

    Args:
        rank: inner width of the low-rank tokens.
        scale_init: first value of the trainable step size.
        order: in the high branch, normalise the logits before the softmax and drop a sink token in both branches, as
            the released code, or normalise the softmax weights and drop nothing, as the paper's equations.
        replace_content: linked queries also give the head its initial query content.
    """

    name = "fada"
    title = "FADA"
    paper = "Bi et al., Learning Frequency-Adapted Vision Foundation Model for Domain Generalized Semantic Segmentation"
    version = 2  # tokens by their ranks, which rounds otherwise
    ports = MappingProxyType({"default": "from_paper"})
    published_m = published(11.65, 16.59)

    rank: int = 16
    scale_init: float = 0.001
    order: Literal["code", "paper"] = "code"
    replace_content: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        at_least("fada.rank", self.rank, 1)
