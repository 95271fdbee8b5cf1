"""Options of Earth-Adapter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

from pydantic import BeforeValidator

from methods.options.base import Options, at_least

_LAYERS = re.compile(r"(?:first|last):\d+|\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*|all|none")


def _as_text(layers: object) -> object:
    """Block numbers in a sequence as one text, so that options stay plain values."""
    if isinstance(layers, Sequence) and not isinstance(layers, str):
        return ",".join(map(str, layers)) or "none"
    return str(layers) if isinstance(layers, int) else layers


@dataclass(frozen=True, kw_only=True)
class EarthAdapterOptions(Options):
    """Earth-Adapter: bottleneck experts on the tokens and on their low and high frequencies.

    The presets are the published settings for domain generalisation; their authors chose them per target.

    Args:
        dim: bottleneck width e of an expert.
        fft_layers: blocks with frequency experts, the others having the spatial one alone: `last:6` or `first:6`
            (all, if the encoder has fewer), a list as `0-5` or `0,4,18-23`, `all` or `none`.
        adapter_layers: blocks that are adapted at all, in the same words; the others are left as they are.
        rho: share of the spectrum's sides that counts as low frequency.
        zero_init_up: start the experts' second layers at zero (an exact identity at initialisation).
        allocate_unused: register frequency experts and routers for every block, as released and as the published
            count has it, though training reaches only those of `fft_layers`.
    """

    name = "earth_adapter"
    title = "Earth-Adapter"
    paper = "Hu et al., Earth-Adapter: Bridge the Geospatial Domain Gaps with a Frequency-Guided MoA, AAAI 2026"
    links_queries = False
    ports = MappingProxyType(
        dict.fromkeys(("default", "potsdam2vaihingen", "vaihingen2potsdam", "loveda_r2u", "loveda_u2r"), "from_paper")
    )
    presets = MappingProxyType(
        {
            "potsdam2vaihingen": MappingProxyType({"dim": 24, "fft_layers": "last:6"}),
            "vaihingen2potsdam": MappingProxyType({"fft_layers": "first:6"}),
            "loveda_r2u": MappingProxyType({"fft_layers": "first:6"}),
            "loveda_u2r": MappingProxyType({"fft_layers": "last:3"}),
        }
    )
    published_m = MappingProxyType({"dinov2": 9.6})

    dim: int = 64
    fft_layers: Annotated[str, BeforeValidator(_as_text)] = "last:6"
    adapter_layers: Annotated[str, BeforeValidator(_as_text)] = "all"
    rho: float = 0.3
    zero_init_up: bool = False
    allocate_unused: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        at_least("earth_adapter.dim", self.dim, 1)
        if not 0 <= self.rho <= 1:
            raise ValueError(f"earth_adapter.rho={self.rho}: must be in [0, 1]")
        for name in ("fft_layers", "adapter_layers"):
            if not _LAYERS.fullmatch(getattr(self, name)):
                raise ValueError(
                    f"earth_adapter.{name}={getattr(self, name)}: write last:6, first:6, 0-5, 0,4,18-23, all or none"
                )

    def adapted_blocks(self, blocks: int) -> tuple[int, ...]:
        """The blocks that are adapted, of an encoder with so many blocks.

        Raises:
            ValueError: a listed block does not exist.
        """
        return _listed("adapter_layers", self.adapter_layers, blocks)

    def fft_blocks(self, blocks: int) -> tuple[int, ...]:
        """Those of them with frequency experts.

        Raises:
            ValueError: a listed block does not exist.
        """
        adapted = self.adapted_blocks(blocks)
        return tuple(block for block in _listed("fft_layers", self.fft_layers, blocks) if block in adapted)


def _listed(option: str, layers: str, blocks: int) -> tuple[int, ...]:
    word, _, count = layers.partition(":")
    if word in ("all", "none"):
        return tuple(range(blocks if word == "all" else 0))
    if count:
        found = range(blocks)[: int(count)] if word == "first" else range(blocks)[max(0, blocks - int(count)) :]
        return tuple(found)
    listed: set[int] = set()
    for part in layers.split(","):
        first, _, last = part.partition("-")
        listed |= set(range(int(first), int(last or first) + 1))
    if not listed or max(listed) >= blocks:
        raise ValueError(
            f"earth_adapter.{option}={layers}: the encoder's blocks are 0 to {blocks - 1}, ranges go upwards"
        )
    return tuple(sorted(listed))
