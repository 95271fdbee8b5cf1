"""Earth-Adapter: a mixture of bottleneck experts on the patch tokens and on their low and high frequencies (AAAI 2026).

Written from a description of the paper's module; names and layout of the released weights are known to `from_released`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from methods.base import EncoderSpec, Method
from methods.loading import load_exactly, take
from methods.options import EarthAdapterOptions
from methods.parts import wide


class EarthAdapter(Method):
    """One spatial expert per block, and in chosen blocks two frequency experts and a router beside it."""

    Options = EarthAdapterOptions
    identity_at_init = False

    def __init__(self, spec: EncoderSpec, options: EarthAdapterOptions) -> None:
        """Frequency experts and routers in every block as released, or where they act only; step sizes start at 0.1."""
        super().__init__(spec, options)
        self.options = options
        self.fft_blocks = options.fft_blocks(spec.blocks)
        self.adapted = options.adapted_blocks(spec.blocks)
        blocks = _allocated(spec, options)
        self.spatial = self._experts(_allocated_spatial(spec, options))
        self.low, self.high = self._experts(blocks), self._experts(blocks)
        self.router = nn.ModuleDict({str(block): nn.Linear(spec.width, 3) for block in blocks})
        self.scale = nn.Parameter(torch.full((spec.blocks,), 0.1))
        used = {"spatial": self.adapted, **dict.fromkeys(("low", "high", "router"), self.fft_blocks)}
        names = [name for name, _ in self.named_parameters() if name.partition(".")[0] in used]
        self.may_be_unused = tuple(n for n in names if int(n.split(".")[1]) not in used[n.partition(".")[0]])
        if not self.adapted:
            self.may_be_unused += ("scale",)

    def _experts(self, blocks: Iterable[int]) -> nn.ModuleDict:
        return nn.ModuleDict(
            {str(block): _expert(self.spec.width, self.options.dim, self.options.zero_init_up) for block in blocks}
        )

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor:
        """F' = F + alpha (w0 E_sp(F) + w1 E_low(F_low) + w2 E_high(F_high)); elsewhere F' = F + alpha E_sp(F), or F."""
        if layer not in self.adapted:
            return x_BND
        block = str(layer)
        delta_BND: Tensor = self.spatial[block](x_BND)
        if layer in self.fft_blocks:
            low_BND, high_BND = (part_BND.to(x_BND.dtype) for part_BND in self.split(x_BND))
            spatial_BN1, low_BN1, high_BN1 = self.route(x_BND, layer).split(1, dim=-1)
            delta_BND = spatial_BN1 * delta_BND
            delta_BND = delta_BND + low_BN1 * self.low[block](low_BND)
            delta_BND = delta_BND + high_BN1 * self.high[block](high_BND)
        return x_BND + self.scale[layer] * delta_BND

    def route(self, x_BND: Tensor, layer: int) -> Tensor:
        """Weights [B, N, 3] of the spatial, low and high expert, by the unfiltered tokens."""
        logits_BN3: Tensor = self.router[str(layer)](x_BND)
        return wide(logits_BN3).softmax(-1)

    def split(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Low and high frequencies of the patch tokens [B, N, D], which add up to them.

        Low is a square of 2c x 2c bins around the centre of the shifted spectrum, from -c to c - 1. For want of bin c
        its inverse transform is not real; the imaginary part is dropped, as released.
        """
        x_BHWD = wide(self.on_grid(x_BND))
        half = half_width(self.grid, self.options.rho)
        rows_H, columns_W = (_low_bins(side, half, x_BHWD) for side in self.grid)
        low_HW1 = torch.outer(rows_H, columns_W)[..., None]
        spectrum_BHWD = low_HW1 * torch.fft.fft2(x_BHWD, dim=(1, 2), norm="ortho")
        low_BHWD = torch.fft.ifft2(spectrum_BHWD, dim=(1, 2), norm="ortho").real
        return low_BHWD.flatten(1, 2), (x_BHWD - low_BHWD).flatten(1, 2)

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor], encoder_spec: EncoderSpec, **options: Any) -> Self:
        """Read a released state dict; the width is read off its shapes.

        Args:
            state_dict: the released tensors, with frequency experts for every block or for none.
            encoder_spec: the encoder they were trained on.
            options: ours; `fft_layers`, `adapter_layers` (or, as released, `fft_layer`, `adapter_layer`) and `rho`
                cannot be read off the tensors and must be those of the training.
        """
        for theirs, ours in (("fft_layer", "fft_layers"), ("adapter_layer", "adapter_layers")):
            if theirs in options and ours not in options:
                options[ours] = options.pop(theirs)
        first = state_dict.get("mlp_list1.0.0.weight")
        if first is not None:
            options.setdefault("dim", first.shape[0])
        spatial_only = first is not None and not any(name.startswith(_FREQUENCY) for name in state_dict)
        if spatial_only:
            options.setdefault("fft_layers", "none")
        chosen = EarthAdapterOptions.make(options)
        names = _released_names(() if spatial_only else range(encoder_spec.blocks), encoder_spec, chosen)
        state = take(state_dict, names, chosen.title)
        method = cls(encoder_spec, chosen)
        load_exactly(method, state, chosen.title)
        return method

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: EarthAdapterOptions) -> int:
        """S E + L + F (2 E + 3D + 3), E = 2De + e + D an expert, S blocks given spatial ones, F frequency ones."""
        spatial, frequency = _allocated_spatial(spec, options), _allocated(spec, options)
        return _count(spec, options, len(spatial), len(frequency)) + spec.blocks

    @classmethod
    def reachable_count(cls, spec: EncoderSpec, options: EarthAdapterOptions) -> int:
        """The same with the blocks in which they act."""
        adapted = len(options.adapted_blocks(spec.blocks))
        return _count(spec, options, adapted, len(options.fft_blocks(spec.blocks))) + adapted


def half_width(grid: tuple[int, int], rho: float) -> int:
    """Half the side c of the low square, in bins: floor(min(H, W) rho / 2)."""
    return int(min(grid) * rho // 2)


_FREQUENCY = ("mlp_list2.", "mlp_list3.", "router.")


def _allocated(spec: EncoderSpec, options: EarthAdapterOptions) -> tuple[int, ...]:
    """Blocks with registered frequency experts: all as soon as one uses them, as released, or only those that do."""
    used = options.fft_blocks(spec.blocks)
    return tuple(range(spec.blocks)) if used and options.allocate_unused else used


def _allocated_spatial(spec: EncoderSpec, options: EarthAdapterOptions) -> tuple[int, ...]:
    """Blocks with registered spatial experts: all, as released, or only those that are adapted."""
    return tuple(range(spec.blocks)) if options.allocate_unused else options.adapted_blocks(spec.blocks)


def _released_names(frequency: Iterable[int], spec: EncoderSpec, options: EarthAdapterOptions) -> dict[str, str]:
    """Released name -> our name, with frequency experts in these blocks; what we do not register is dropped."""
    kept_spatial, kept_frequency = _allocated_spatial(spec, options), _allocated(spec, options)
    modules: dict[str, str] = {}
    for block in range(spec.blocks):
        modules |= {f"mlp_list1.{block}.{i}": f"spatial.{block}.{i}" if block in kept_spatial else "" for i in (0, 2)}
    for block in frequency:
        experts = {f"mlp_list2.{block}.{i}": f"low.{block}.{i}" for i in (0, 2)}
        experts |= {f"mlp_list3.{block}.{i}": f"high.{block}.{i}" for i in (0, 2)}
        experts |= {f"router.{block}": f"router.{block}"}
        modules |= experts if block in kept_frequency else dict.fromkeys(experts, "")
    names = {f"{t}.{kind}": o and f"{o}.{kind}" for t, o in modules.items() for kind in ("weight", "bias")}
    return names | {"scale": "scale"}


def _count(spec: EncoderSpec, options: EarthAdapterOptions, spatial: int, frequency: int) -> int:
    """Parameters of experts and routers in so many blocks."""
    d, e = spec.width, options.dim
    expert = 2 * d * e + e + d
    return spatial * expert + frequency * (2 * expert + 3 * d + 3)


def _expert(width: int, dim: int, zero_init_up: bool) -> nn.Sequential:
    down, up = nn.Linear(width, dim), nn.Linear(dim, width)
    for linear in (down, up):
        nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5))
    if zero_init_up:
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
    return nn.Sequential(down, nn.ReLU(), up)


def _low_bins(side: int, half: int, like: Tensor) -> Tensor:
    """1 for frequencies -c to c - 1, else 0, in the FFT's own order [side]."""
    frequencies = torch.arange(side, device=like.device)
    signed = torch.where(frequencies < (side + 1) // 2, frequencies, frequencies - side)
    return ((signed >= -half) & (signed < half)).to(like.dtype)
