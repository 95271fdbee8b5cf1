"""What the experts' tokens add to a token, and how visual and depth adjustments meet (SpectralMoE Eq. 3-6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from methods.options import SpectralMoEOptions
from methods.parts import wide, with_bias

_LEAST = float(np.finfo(np.float64).eps)  # 2.22e-16: what the released code takes for a sum of 0


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens A B of every expert, never multiplied out: their rank is far below their number.

    Args:
        mix_ETR: A.
        basis_ERD: B.
        feature_ERD: B through the weight of the layer that turns tokens into features.
        bias_D: that layer's bias, which every token gets.
    """

    mix_ETR: Tensor
    basis_ERD: Tensor
    feature_ERD: Tensor
    bias_D: Tensor

    @classmethod
    def of(cls, a_ETR: Tensor, b_ERD: Tensor, value: nn.Linear) -> Tokens:
        """Of the factors, and the layer D -> D that turns tokens into features."""
        return cls(mix_ETR=a_ETR, basis_ERD=b_ERD, feature_ERD=b_ERD @ value.weight.T, bias_D=value.bias)

    @property
    def width(self) -> int:
        """That of a token."""
        return self.basis_ERD.shape[-1]

    def sums_ET1(self) -> Tensor:
        """Every token's sum over its channels, exact: what is made of it may be large."""
        with torch.autocast(self.mix_ETR.device.type, enabled=False):
            return self.mix_ETR @ self.basis_ERD.sum(-1, keepdim=True)


def adjust(
    streams: Sequence[Tensor], gates: Sequence[Tensor], tokens: Tokens, options: SpectralMoEOptions
) -> list[Tensor]:
    """Adjustments [S, D] of every stream's tokens by the experts that their gates name.

    Args:
        streams: tokens [S, D] of a modality, of all images.
        gates: their gates [S, E], 0 where an expert is not chosen.
        tokens: adaptive tokens of every expert.
        options: token attention and combination.
    """
    dot = options.token_attention == "dot"
    queries = list(streams) if dot else [x_SD.sum(-1, keepdim=True) for x_SD in streams]
    # one product over all experts costs as much as sending a third of the tokens to each (measured on CPU)
    if options.combine == "weighted" and 3 * options.top_k > len(tokens.mix_ETR):
        pairs = zip(queries, gates, strict=True)
        return [_mix_all(query_SC, tokens, gates_SE, options) for query_SC, gates_SE in pairs]
    # together, because every expert's group is a product of its own
    adjusted_SD: Tensor = _dispatch(torch.cat(queries), tokens, torch.cat(list(gates)), options)
    return list(adjusted_SD.split([len(gates_SE) for gates_SE in gates]))


def _mix_all(query_SC: Tensor, tokens: Tokens, gates_SE: Tensor, options: SpectralMoEOptions) -> Tensor:
    """The gate-weighted sum as one product over all experts, chosen or not (Eq. 5)."""
    mix_ETR, scale = tokens.mix_ETR, 1 / math.sqrt(tokens.width)
    if options.token_attention == "dot":
        ranked_SX = query_SC @ (scale * tokens.basis_ERD.flatten(0, 1)).T
        logits_SET = wide(torch.einsum("ser,etr->set", ranked_SX.unflatten(1, (len(mix_ETR), -1)), mix_ETR))
    else:
        logits_SET = wide(query_SC)[..., None] * wide(scale * tokens.sums_ET1()[..., 0])
    weights_SET = logits_SET.softmax(-1) * gates_SE[..., None]
    if options.drop_first_token:
        weights_SET, mix_ETR = weights_SET[..., 1:], mix_ETR[:, 1:]
    share_SX = torch.einsum("set,etr->ser", weights_SET.to(mix_ETR.dtype), mix_ETR).flatten(1)
    whole_S1 = weights_SET.sum((1, 2))[:, None].to(share_SX.dtype)
    return with_bias(share_SX, whole_S1, tokens.feature_ERD.flatten(0, 1), tokens.bias_D)


# group sizes are data: a compiled graph would be made anew for each
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _dispatch(query_SC: Tensor, tokens: Tokens, gates_SE: Tensor, options: SpectralMoEOptions) -> Tensor:
    """The sum over chosen experts, where every token meets the tokens of its own experts only."""
    # pairs in the order of experts; a gate that underflows to exactly 0 counts as not chosen, as released
    expert_P, token_P = (gates_SE.T > 0).nonzero(as_tuple=True)
    mix_ETR, scale = tokens.mix_ETR, 1 / math.sqrt(tokens.width)
    sizes = expert_P.bincount(minlength=len(mix_ETR)).tolist()
    dot = options.token_attention == "dot"
    keys = scale * (tokens.basis_ERD if dot else tokens.sums_ET1())
    deltas = []
    queries, features = query_SC.index_select(0, token_P).split(sizes), tokens.feature_ERD.unbind()
    for query_RC, key_XC, mix_TR, feature_RD in zip(queries, keys.unbind(), mix_ETR.unbind(), features, strict=True):
        logits_RT = wide(query_RC @ key_XC.T @ mix_TR.T) if dot else wide(query_RC) * wide(key_XC).T
        weights_RT = logits_RT.softmax(-1)
        if options.drop_first_token:
            weights_RT, mix_TR = weights_RT[:, 1:], mix_TR[1:]
        weights_RT = weights_RT.to(mix_TR.dtype)
        whole_R1 = weights_RT.sum(-1, keepdim=True)
        deltas.append(with_bias(weights_RT @ mix_TR, whole_R1, feature_RD, tokens.bias_D))
    delta_PD, size = torch.cat(deltas), (len(gates_SE), tokens.width)
    if options.combine == "weighted":
        if options.top_k > 1:  # the gate of a single expert is 1
            delta_PD = delta_PD * gates_SE[token_P, expert_P, None].to(delta_PD.dtype)
        return delta_PD.new_zeros(size).index_add(0, token_P, delta_PD)
    # the released code sums exponentials in fp32, whatever the input
    exponential_PD = wide(delta_PD).exp().float()
    sum_SD = exponential_PD.new_zeros(size).index_add(0, token_P, exponential_PD)
    return sum_SD.masked_fill(sum_SD == 0, _LEAST).log()


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
