"""FADA: learnable tokens for the low and the high bands of a Haar transform of the patch tokens (NeurIPS 2024).

The low band is taken for content; on the high ones the similarity to the tokens is normalised, against style. Written
from the paper's equations; sharing of the linear layers and the step size follow REIN and the released code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.base import EncoderSpec, Method, Queries
from methods.options import FadaOptions
from methods.parts import QueryLink, TokenModule

_BANDS = 3  # high bands of a two-dimensional Haar transform, each with its share of the high tokens


class Fada(Method):
    """Two REIN modules between a Haar transform and its inverse, queries linked from the low tokens."""

    Options = FadaOptions
    identity_at_init = False
    no_weight_decay = ("tokens_a", "tokens_b", "scale")

    def __init__(self, spec: EncoderSpec, options: FadaOptions) -> None:
        """As many low tokens as the head has queries, three times as many high ones; initialised as REIN."""
        super().__init__(spec, options)
        self.options = options
        self.low = TokenModule(spec, spec.queries, options.rank)
        self.high = TokenModule(spec, _BANDS * spec.queries, options.rank)
        self.scale = nn.Parameter(torch.tensor(options.scale_init))
        self.link = QueryLink(spec.width, spec.query_width) if spec.linked else None

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor:
        """f' = f + s IHaar(dLL, dHigh), that is IHaar(LL + s dLL, High + s dHigh): the transform is linear.

        In this form a step size of 0 gives f back bit by bit. The high bands attend as one sequence of patches.
        """
        as_paper = self.options.order == "paper"
        low_BnD, high_BnD = haar(_even(self.on_grid(x_BND)))
        low_BnD = self.low(low_BnD, layer, sink=not as_paper)
        high_BnD = self.high(high_BnD, layer, standardise="weights" if as_paper else "logits", sink=not as_paper)
        rows, columns = self.grid
        delta_BHWD = inverse_haar(low_BnD, high_BnD, (rows + 1) // 2)[:, :rows, :columns]
        return x_BND + self.scale * delta_BHWD.flatten(1, 2)

    def queries(self) -> Queries | None:
        """Query positions linked from the low tokens."""
        if self.link is None:
            return None
        return Queries(position_QC=self.link(self.low.bank()), replace_content=self.options.replace_content)

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: FadaOptions) -> int:
        """Two token modules with m and 3 m tokens, link and scale (sheet, section 6)."""
        link = QueryLink.count(spec.width, spec.query_width) if spec.linked else 0
        modules = (TokenModule.count(spec, tokens * spec.queries, options.rank) for tokens in (1, _BANDS))
        return sum(modules) + link + 1


def haar(x_BHWD: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform of a map with even sides, as correlation: high = second - first.

    Returns:
        The low band [B, N/4, D] and the high ones LH, HL, HH (high along columns, rows, both), one after the other
        [B, 3N/4, D].
    """
    a, b = x_BHWD[:, ::2, ::2].flatten(1, 2), x_BHWD[:, ::2, 1::2].flatten(1, 2)
    c, e = x_BHWD[:, 1::2, ::2].flatten(1, 2), x_BHWD[:, 1::2, 1::2].flatten(1, 2)
    return (a + b + c + e) / 2, torch.cat([b - a + e - c, c + e - a - b, a - b - c + e], dim=1) / 2


def inverse_haar(low_BnD: Tensor, high_BnD: Tensor, rows: int) -> Tensor:
    """The map [B, 2 rows, .., D] with these bands; the transform is orthonormal, so its inverse is its transpose."""
    lh, hl, hh = high_BnD.chunk(_BANDS, dim=1)
    cells = (low_BnD - lh - hl + hh, low_BnD + lh - hl - hh, low_BnD - lh + hl - hh, low_BnD + lh + hl + hh)
    cells_B22hwD: Tensor = (torch.stack(cells, dim=1) / 2).unflatten(1, (2, 2)).unflatten(3, (rows, -1))
    return cells_B22hwD.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)


def _even(x_BHWD: Tensor) -> Tensor:
    """The map with a reflected row below, a reflected column on the right, where their number is odd.

    A single row or column, which reflection cannot extend, is repeated.
    """
    if x_BHWD.shape[1] % 2:
        x_BHWD = torch.cat([x_BHWD, x_BHWD[:, -2:][:, :1]], dim=1)
    if x_BHWD.shape[2] % 2:
        x_BHWD = torch.cat([x_BHWD, x_BHWD[:, :, -2:][:, :, :1]], dim=2)
    return x_BHWD
