"""DepthForge: REIN whose patches choose their tokens by visual and depth features together (ICCV 2025).

Written from the equations of the paper. The adapter has REIN's parameters and no other; the paper's second part, a
module on the feature maps, is an option and counts as head.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from methods.base import EncoderSpec
from methods.options import DepthForgeOptions, ReinOptions
from methods.rein import Rein


class DepthForge(Rein):
    """REIN with the sum of visual and depth features as attention query."""

    Options: ClassVar[type[ReinOptions]] = DepthForgeOptions
    pyramid_parts = ("refinement",)
    alignment: Tensor | None

    def __init__(self, spec: EncoderSpec, options: DepthForgeOptions) -> None:
        """REIN's parameters; a fixed matrix where the widths of the two encoders differ."""
        super().__init__(spec, options)
        self.refinement = MapRefinement(spec.width) if options.refine_maps else None
        matrix = None
        if spec.depth_width != spec.width:
            meta = self.output.weight.is_meta  # only the shape counts, and the decomposition takes time
            shape = spec.depth_width, spec.width
            matrix = torch.empty(shape, dtype=torch.float64) if meta else alignment_matrix(*shape)
        # not saved: it follows from the widths
        self.register_buffer("alignment", matrix, persistent=False)

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor:
        """One step of REIN in which f + g asks: logits f T^T + g T^T; g never reaches the values."""
        assert depth_BMD is not None, "the harness pairs depth tokens with every method that needs them"
        if self.alignment is not None:
            depth_BMD = depth_BMD @ self.alignment.to(depth_BMD.dtype)
        return self.step(x_BND, layer, query_BND=x_BND + depth_BMD)

    def pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """Refine the finest map, if the option says so."""
        return maps if self.refinement is None else self.refinement(maps)


def alignment_matrix(depth_width: int, width: int) -> Tensor:
    """A fixed matrix [depth width, D] with orthonormal rows, or columns if it has more rows, always the same one.

    Q of a standard normal matrix drawn in float64 from seed 0, signs fixed by a positive diagonal of R. A rule of this
    project: the released code takes equal widths only, and the published count leaves no room for a trained one.
    """
    generator = torch.Generator().manual_seed(0)
    shape = max(depth_width, width), min(depth_width, width)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    q, r = torch.linalg.qr(normal)
    matrix: Tensor = q * r.diagonal().sign()
    return matrix.mT.contiguous() if depth_width < width else matrix


class MapRefinement(nn.Module):
    """The depth refinement decoder: all maps, gated and merged at the finest size, are added to the finest one.

    Both gates are shared by the four maps: one per channel by a bottleneck without pooling, then one per pixel.
    """

    def __init__(self, width: int) -> None:
        """Four convolutions with PyTorch's default initialisation, for maps of `width` channels."""
        super().__init__()
        self.channels = nn.Sequential(nn.Conv2d(width, width // 16, 1), nn.ReLU(), nn.Conv2d(width // 16, width, 1))
        self.pixels = nn.Conv2d(width, 1, 3, padding=1)
        self.merge = nn.Conv2d(4 * width, width, 1)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Four maps [B, D, ., .], finest first -> the same, the first one refined."""
        gated = [self._gated(self._resized(x_BDHW, maps[0])) for x_BDHW in maps]
        return [maps[0] + self.merge(torch.cat(gated, dim=1)), *maps[1:]]

    def _gated(self, x_BDHW: Tensor) -> Tensor:
        x_BDHW = x_BDHW * self.channels(x_BDHW).sigmoid()
        gated: Tensor = x_BDHW * self.pixels(x_BDHW).sigmoid()
        return gated

    @staticmethod
    def _resized(x_BDHW: Tensor, finest_BDHW: Tensor) -> Tensor:
        if x_BDHW.shape == finest_BDHW.shape:
            return x_BDHW
        return nn.functional.interpolate(x_BDHW, size=finest_BDHW.shape[-2:], mode="bilinear", align_corners=False)
