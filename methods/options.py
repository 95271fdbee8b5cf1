"""Options and facts of the built-in methods, free of torch so that planning and listing stay instant."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

T = TypeVar("T")
Port = Literal["author_checked", "vector_checked", "from_paper", "inferred"]
"""Who vouches for a port: its authors, golden vectors of the released code, its paper, or our best reading."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a method can be told (its fields) and what is known about it (its class variables).

    Tables give the difference to the method marked `baseline`. `links_queries = False` says that the method never gives
    the head linked queries. A method marked `control` takes part only where a suite or the user names it.
    A preset is a named set of field values, taken when `preset` names it; an option given beside it wins.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    version: ClassVar[int] = 1
    lr_scale: ClassVar[float] = 1.0
    control: ClassVar[bool] = False
    baseline: ClassVar[bool] = False
    links_queries: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType({})
    ports: ClassVar[Mapping[str, Port]]

    preset: str = "default"

    @classmethod
    def make(cls, given: Mapping[str, Any]) -> Self:
        """Options from names and values; values may be strings, as typed on a command line.

        Raises:
            ValueError: an unknown option or preset (the nearest name is suggested), or a value that does not fit.
        """
        preset = str(given.get("preset", cls.preset))
        if preset not in cls.ports:
            raise ValueError(f"unknown preset {cls.name}.preset={preset}{nearest(preset, cls.ports)}")
        return checked(cls, cls.name, {**cls.presets.get(preset, {}), **given})

    @property
    def needs_depth(self) -> bool:
        """Whether the method reads the depth encoder."""
        return False

    @property
    def port(self) -> Port:
        """Who vouches for the port under the chosen preset."""
        return self.ports[self.preset]


@dataclass(frozen=True, kw_only=True)
class FrozenOptions(Options):
    """The frozen baseline has nothing to set."""

    name = "frozen"
    baseline = True
    links_queries = False
    title = "Frozen"
    paper = "linear-probe style baseline: frozen backbone, trained head"
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
    ports = MappingProxyType({"default": "inferred"})

    rank: int = 8
    alpha: int = 0
    dropout: float = 0.0
    target: Literal["qv", "qkv_fused", "qkvo"] = "qv"

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        _at_least("lora.rank", self.rank, 1)
        _at_least("lora.alpha", self.alpha, 0)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout={self.dropout}: must be in [0, 1)")


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
    ports = MappingProxyType({"default": "vector_checked"})

    rank: int = 16
    scale_init: float = 0.001
    zero_init: bool = False
    replace_content: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        _at_least("rein.rank", self.rank, 0)


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
        _at_least("spectralmoe.experts", self.experts, 1)
        _at_least("spectralmoe.top_k", self.top_k, 1)
        _at_least("spectralmoe.rank", self.rank, 1)
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


def _at_least(option: str, value: float, least: float) -> None:
    if value < least:
        raise ValueError(f"{option}={value}: must be at least {least}")


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


def checked(cls: type[T], owner: str, values: Mapping[str, Any]) -> T:
    """A frozen dataclass from names and values (strings are converted), checked.

    Args:
        cls: the dataclass.
        owner: what stands before the dot in messages.
        values: fields by name; those left out take their default.

    Raises:
        ValueError: an unknown field (the nearest is suggested), or a value that does not fit.
    """
    known = [field.name for field in fields(cast(Any, cls))]
    for name in values:
        if name not in known:
            raise ValueError(f"unknown option {owner}.{name}{nearest(name, known)}")
    try:
        made = TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":
            raise first["ctx"]["error"] from None
        option = f"{owner}.{first['loc'][0]}"
        raise ValueError(f"{option}={first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    for name in known:
        value = getattr(made, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{owner}.{name}={value}: must be a finite number")
    return made


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message on an unknown name: the nearest known one, then all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f"{guess} (known: {', '.join(names) or 'none'})"
