"""What the experts' tokens add to a token, and how visual and depth adjustments meet (SpectralMoE Eq. 3-6)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from methods.options import SpectralMoEOptions
from methods.parts import wide

_LEAST = float(np.finfo(np.float64).eps)  # 2.22e-16: what the released code takes for a sum of 0


def adjust(
    streams: Sequence[Tensor],
    gates: Sequence[Tensor],
    tokens_ETD: Tensor,
    values_ETD: Tensor,
    options: SpectralMoEOptions,
) -> list[Tensor]:
    """Adjustments [S, D] of every stream's tokens by the experts that their gates name.

    Args:
        streams: tokens [S, D] of a modality, of all images.
        gates: their gates [S, E], 0 where an expert is not chosen.
        tokens_ETD: adaptive tokens of every expert.
        values_ETD: the same tokens turned into features.
        options: token attention and combination.
    """
    if options.token_attention == "dot":
        queries, key_ETC = list(streams), tokens_ETD
    else:
        queries, key_ETC = [x_SD.sum(-1, keepdim=True) for x_SD in streams], tokens_ETD.sum(-1, keepdim=True)
    # dividing the few tokens instead of the many logits
    key_ETC = key_ETC / math.sqrt(tokens_ETD.shape[-1])
    if options.drop_first_token:
        values_ETD = values_ETD[:, 1:]
    # one product over all experts costs as much as sending a third of the tokens to each (measured on CPU)
    if options.combine == "weighted" and 3 * options.top_k > len(tokens_ETD):
        pairs = zip(queries, gates, strict=True)
        return [_mix_all(query_SC, key_ETC, values_ETD, gates_SE, options) for query_SC, gates_SE in pairs]
    # together, because every expert's group is a product of its own
    adjusted_SD: Tensor = _dispatch(torch.cat(queries), key_ETC, values_ETD, torch.cat(list(gates)), options)
    return list(adjusted_SD.split([len(gates_SE) for gates_SE in gates]))


def _mix_all(
    query_SC: Tensor, key_ETC: Tensor, values_ETD: Tensor, gates_SE: Tensor, options: SpectralMoEOptions
) -> Tensor:
    """The gate-weighted sum as one product over all experts, chosen or not (Eq. 5)."""
    logits_SX = _logits(query_SC, key_ETC.flatten(0, 1), options)
    weights_SET = logits_SX.unflatten(1, key_ETC.shape[:2]).softmax(-1) * gates_SE[..., None]
    if options.drop_first_token:
        weights_SET = weights_SET[..., 1:]
    values_XD = values_ETD.flatten(0, 1)
    mixed_SD: Tensor = weights_SET.flatten(1).to(values_XD.dtype) @ values_XD
    return mixed_SD


# group sizes are data: a compiled graph would be made anew for each
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _dispatch(
    query_SC: Tensor, key_ETC: Tensor, values_ETD: Tensor, gates_SE: Tensor, options: SpectralMoEOptions
) -> Tensor:
    """The sum over chosen experts, where every token meets the tokens of its own experts only."""
    # pairs in the order of experts; a gate that underflows to exactly 0 counts as not chosen, as released
    expert_P, token_P = (gates_SE.T > 0).nonzero(as_tuple=True)
    sizes = expert_P.bincount(minlength=len(key_ETC)).tolist()
    deltas = []
    groups = (query_SC.index_select(0, token_P).split(sizes), key_ETC.unbind(), values_ETD.unbind())
    for query_RC, key_TC, value_TD in zip(*groups, strict=True):
        weights_RT = _logits(query_RC, key_TC, options).softmax(-1)
        if options.drop_first_token:
            weights_RT = weights_RT[:, 1:]
        deltas.append(weights_RT.to(value_TD.dtype) @ value_TD)
    delta_PD, size = torch.cat(deltas), (len(gates_SE), values_ETD.shape[-1])
    if options.combine == "weighted":
        if options.top_k > 1:  # the gate of a single expert is 1
            delta_PD = delta_PD * gates_SE[token_P, expert_P, None].to(delta_PD.dtype)
        return delta_PD.new_zeros(size).index_add(0, token_P, delta_PD)
    # the released code sums exponentials in fp32, whatever the input
    exponential_PD = wide(delta_PD).exp().float()
    sum_SD = exponential_PD.new_zeros(size).index_add(0, token_P, exponential_PD)
    return sum_SD.masked_fill(sum_SD == 0, _LEAST).log()


def _logits(query_SC: Tensor, key_XC: Tensor, options: SpectralMoEOptions) -> Tensor:
    if options.token_attention == "dot":
        return wide(query_SC @ key_XC.T)
    return wide(query_SC) * wide(key_XC).T


def fuse(fusion: str, visual_BND: Tensor, depth_BMD: Tensor | None = None) -> Tensor:
    """Visual and depth adjustments as one [B, N, D] (Eq. 6 and its variants); depth is None where none is read."""
    if fusion == "none":
        return visual_BND
    if fusion == "self":
        return _attend(visual_BND, visual_BND)
    assert depth_BMD is not None, "options refuse these fusions without depth"
    if fusion == "add":
        return visual_BND + depth_BMD
    if fusion == "full":
        return _attend(visual_BND, depth_BMD)
    # released: depth queries visual, and only the diagonal of the attention meets the value
    attention_BMN = wide(depth_BMD @ visual_BND.mT / math.sqrt(depth_BMD.shape[-1])).softmax(-1)
    diagonal_BN = attention_BMN.diagonal(dim1=1, dim2=2)
    fused_BND: Tensor = diagonal_BN[..., None].to(visual_BND.dtype) * visual_BND
    return fused_BND


def _attend(query_BND: Tensor, value_BMD: Tensor) -> Tensor:
    """softmax(q v^T / sqrt(D)) v, without parameters."""
    # one head: without its axis torch takes a slower kernel
    query_B1ND, value_B1MD = query_BND[:, None], value_BMD[:, None]
    return nn.functional.scaled_dot_product_attention(query_B1ND, value_B1MD, value_B1MD)[:, 0]
