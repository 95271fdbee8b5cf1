"""Parts of `transformers`' Mask2Former that compute the same with less work: the same names, weights and equations.

They take the place of the library's once those are initialised, so that every tensor starts as it does there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerTransformerModule,
    multi_scale_deformable_attention,
)


class EarlyProjection(nn.Module):
    """A 1 x 1 convolution of the pixel decoder, done on the token grid, before a map is made finer.

    Both mix along different axes and bilinear weights add up to 1, so that they commute; on the coarser grid the
    convolution is up to 16 times smaller, and the map that is resized has the head's channels, not the encoder's.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """Take over the weights."""
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def project(self, map_BDhw: Tensor, factor: float) -> Tensor:
        """The map [B, D, h, w] projected and `factor` times as fine."""
        if factor <= 1:
            return nn.functional.conv2d(resized(map_BDhw, factor), self.weight, self.bias)
        return resized(nn.functional.conv2d(map_BDhw, self.weight, self.bias), factor)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """What was projected passes unchanged."""
        return x_BChw


def resized(map_BChw: Tensor, factor: float) -> Tensor:
    """A map [B, C, h, w] made `factor` times as fine, bilinearly."""
    if factor == 1:
        return map_BChw
    return nn.functional.interpolate(map_BChw, scale_factor=factor, mode="bilinear", align_corners=False)


class DeformableAttention(nn.Module):
    """Attention of a pixel decoder to a few points of each level, as one sum over the corners around them.

    Used on the CPU, where it takes a third of the memory of sampling every point first; a GPU does that well.
    """

    def __init__(self, library: nn.Module) -> None:
        """Take over the library's part."""
        super().__init__()
        made: Any = library
        self.heads, self.levels, self.points = made.n_heads, made.n_levels, made.n_points
        self.sampling_offsets: nn.Linear = made.sampling_offsets
        self.attention_weights: nn.Linear = made.attention_weights
        self.value_proj: nn.Linear = made.value_proj
        self.output_proj: nn.Linear = made.output_proj

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        position_embeddings: Tensor,
        reference_points: Tensor,
        spatial_shapes_list: list[tuple[int, int]],
        **_: object,
    ) -> tuple[Tensor, None]:
        """What every token [B, N, C] takes from the points around its place; no map is padded here."""
        query_BNC = hidden_states + position_embeddings
        offset_BNHLP2 = self.sampling_offsets(query_BNC).unflatten(-1, (self.heads, self.levels, self.points, 2))
        share_BNHX = self.attention_weights(query_BNC).unflatten(-1, (self.heads, -1)).softmax(-1)
        share_BNHLP = share_BNHX.unflatten(-1, (self.levels, self.points))
        size_L2 = offset_BNHLP2.new_tensor([(width, height) for height, width in spatial_shapes_list])
        place_BNHLP2 = reference_points[:, :, None, :, None] + offset_BNHLP2 / size_L2[:, None]
        value_BNHC = self.value_proj(encoder_hidden_states).unflatten(-1, (self.heads, -1))
        sample = multi_scale_deformable_attention if value_BNHC.is_cuda else gather_corners
        return self.output_proj(sample(value_BNHC, spatial_shapes_list, place_BNHLP2, share_BNHLP)), None


def gather_corners(
    value_BNHC: Tensor, shapes: Sequence[tuple[int, int]], place_BQHLP2: Tensor, share_BQHLP: Tensor
) -> Tensor:
    """The library's `multi_scale_deformable_attention` [B, Q, H C]: bilinear samples, zero outside, summed by share.

    Args:
        value_BNHC: values of all levels one after the other, for each head.
        shapes: height and width of each level.
        place_BQHLP2: where to sample, as fractions of width and height.
        share_BQHLP: weights of the samples.
    """
    batch, tokens, heads, _ = value_BNHC.shape
    size_L2 = place_BQHLP2.new_tensor([(width, height) for height, width in shapes])
    # rounded as grid_sample does: offsets start at whole pixels, where each side has a slope of its own
    pixel_BQHLP2 = (2 * place_BQHLP2 - 1 + 1) * (size_L2[:, None] / 2) - 0.5
    low_BQHLP2 = pixel_BQHLP2.detach().floor()
    beyond_BQHLP2 = pixel_BQHLP2 - low_BQHLP2
    last_L121 = (size_L2[:, None, :, None] - 1).int()
    # the two columns and rows around a place; what lies outside counts nothing and is read from the border
    side_BQHLP22 = torch.stack([low_BQHLP2, low_BQHLP2 + 1], dim=-1).int()
    inside_BQHLP22 = side_BQHLP22.clamp(min=0).minimum(last_L121)
    part_BQHLP22 = torch.stack([1 - beyond_BQHLP2, beyond_BQHLP2], dim=-1) * (inside_BQHLP22 == side_BQHLP22)
    (column, row), (x_part, y_part) = inside_BQHLP22.unbind(-2), part_BQHLP22.unbind(-2)
    weight_BQHLP22 = (share_BQHLP[..., None] * y_part)[..., None] * x_part[..., None, :]
    counts = [height * width for height, width in shapes]
    start_L11 = last_L121.new_tensor([sum(counts[:level]) for level in range(len(shapes))])[:, None, None]
    width_L11 = last_L121[:, :, 0] + 1
    first_B1H1111 = tokens * torch.arange(batch * heads, dtype=torch.int32).view(batch, 1, heads, 1, 1, 1, 1)
    index_BQHLP22 = (row * width_L11 + start_L11)[..., None] + column[..., None, :] + first_B1H1111
    table_XC = value_BNHC.transpose(1, 2).flatten(0, 2).to(weight_BQHLP22.dtype)
    summed_XC = nn.functional.embedding_bag(
        index_BQHLP22.flatten(0, 2).flatten(1),
        table_XC,
        per_sample_weights=weight_BQHLP22.flatten(0, 2).flatten(1),
        mode="sum",
    )
    summed_BQX: Tensor = summed_XC.view(batch, -1, heads * table_XC.shape[-1])
    return summed_BQX


class MaskPredictor(nn.Module):
    """Mask logits, and the mask of the next attention without a graph and once for all heads until it is binary."""

    def __init__(self, library: nn.Module) -> None:
        """Take over the library's part."""
        super().__init__()
        self.mask_embedder, self.heads = cast(nn.Module, library.mask_embedder), cast(int, library.num_heads)

    def forward(self, hidden_QBC: Tensor, pixels_BChw: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Mask logits [B, Q, h, w] and what attention leaves out [B x heads, Q, keys] at the size of its keys."""
        logits_BQhw = torch.einsum("bqc,bchw->bqhw", self.mask_embedder(hidden_QBC.transpose(0, 1)), pixels_BChw)
        with torch.no_grad():
            keys_BQhw = nn.functional.interpolate(logits_BQhw, size=size, mode="bilinear", align_corners=False)
            outside_BQK = (keys_BQhw.sigmoid() < 0.5).flatten(2)
            outside_XQK = outside_BQK.repeat_interleave(self.heads, 0)
        return logits_BQhw, outside_XQK


def replace_pixel_parts(decoder: Mask2FormerPixelDecoder) -> list[EarlyProjection]:
    """Let a pixel decoder sample as above; its first convolutions, in the order of the maps, are done before it."""
    for layer in decoder.encoder.layers:
        layer.self_attn = DeformableAttention(cast(nn.Module, layer.self_attn))
    projections: list[EarlyProjection] = []
    # lateral ones serve the finest maps, and stand from coarse to fine like the others
    for door in (*decoder.input_projections, *decoder.lateral_convolutions):
        early = EarlyProjection(cast(nn.Conv2d, door[0]))
        door[0] = early
        projections.insert(0, early)
    return projections


def replace_query_parts(transformer: Mask2FormerTransformerModule) -> None:
    """Let a transformer decoder leave out what nobody reads: attention weights, and the graph of masks."""
    decoder: Any = transformer.decoder
    decoder.mask_predictor = MaskPredictor(decoder.mask_predictor)
    for layer in decoder.layers:
        layer.cross_attn.register_forward_pre_hook(_without_weights, with_kwargs=True)


def _without_weights(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The library asks for attention weights and drops them, which keeps torch from its fused kernel."""
    return args, {**kwargs, "need_weights": False}
