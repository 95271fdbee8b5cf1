"""What several methods share: attention to adaptive tokens, their link to the queries, split query-key-value layers."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from methods.base import EncoderSpec

Standardise = Literal["nothing", "logits", "weights"]


def wide(x: Tensor) -> Tensor:
    """At least fp32: transforms, softmaxes and variances lose too much in bf16, or do not exist there."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def uniform_tokens(spec: EncoderSpec, fan: float, *shape: int) -> nn.Parameter:
    """Tokens from U(-v, v), v = sqrt(6 / (3 p^2 + fan)), the bound of REIN and of what followed it."""
    bound = math.sqrt(6 / (3 * spec.patch_size**2 + fan))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def token_linears(width: int) -> tuple[nn.Linear, nn.Linear]:
    """REIN's two layers D -> D, token to feature and output, with Kaiming-uniform weights (a = sqrt 5)."""
    pair = nn.Linear(width, width), nn.Linear(width, width)
    for linear in pair:
        nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5))
    return pair


def token_update(
    query_BND: Tensor, tokens_TD: Tensor, value: nn.Module, standardise: Standardise = "nothing", sink: bool = True
) -> Tensor:
    """What each patch takes from the tokens: u = softmax(q T^T / sqrt(D)) value(T) [B, N, D] (REIN Eq. 2-5).

    Args:
        query_BND: the patches' side of the similarity.
        tokens_TD: the tokens of one layer.
        value: the shared layer D -> D that turns tokens into features.
        standardise: give the T logits, or the T softmax weights, of each patch zero mean and unit variance.
        sink: leave token 0 out of the sum after the softmax, so that a patch may take less than a full mean.
    """
    weights_BNT = _shares(query_BND @ tokens_TD.T, tokens_TD.shape[-1], standardise)
    if sink:
        weights_BNT, tokens_TD = weights_BNT[..., 1:], tokens_TD[1:]
    value_TD: Tensor = value(tokens_TD)
    return weights_BNT.to(value_TD.dtype) @ value_TD


def low_rank_update(
    query_BND: Tensor,
    a_TR: Tensor,
    b_RD: Tensor,
    value: nn.Linear,
    standardise: Standardise = "nothing",
    sink: bool = True,
) -> Tensor:
    """`token_update` for tokens T = A B, which are never multiplied out: products go through the few ranks instead.

    Args:
        query_BND: the patches' side of the similarity.
        a_TR: A of one layer.
        b_RD: B of one layer.
        value: the shared layer D -> D that turns tokens into features.
        standardise: as there.
        sink: as there.
    """
    weights_BNT = _shares(query_BND @ b_RD.T @ a_TR.T, b_RD.shape[-1], standardise)
    if sink:
        weights_BNT, a_TR = weights_BNT[..., 1:], a_TR[1:]
    return low_rank_features(weights_BNT.to(a_TR.dtype), a_TR, b_RD, value)


def low_rank_features(weights_XT: Tensor, a_TR: Tensor, b_RD: Tensor, value: nn.Linear) -> Tensor:
    """weights value(A B), with the bias once for every unit of weight."""
    return with_bias(weights_XT @ a_TR, weights_XT.sum(-1, keepdim=True), b_RD @ value.weight.T, value.bias)


def with_bias(share_XR: Tensor, whole_X1: Tensor, feature_RD: Tensor, bias_D: Tensor) -> Tensor:
    """share feature + whole bias, as one product."""
    return torch.cat([share_XR, whole_X1], dim=-1) @ torch.cat([feature_RD, bias_D[None].to(feature_RD.dtype)])


def _shares(logits_BNT: Tensor, width: int, standardise: Standardise) -> Tensor:
    """What share each patch has of each token."""
    # at least fp32: bf16 weights of some hundred tokens would not add up to 1
    logits_BNT = wide(logits_BNT)
    if standardise == "logits":
        logits_BNT = _standardised(logits_BNT, 1e-5)
    weights_BNT = (logits_BNT / math.sqrt(width)).softmax(-1)
    # near-uniform weights of 300 tokens have a variance of 1e-9: a usual epsilon would switch them off
    return _standardised(weights_BNT, 1e-12) if standardise == "weights" else weights_BNT


def _standardised(x_BNT: Tensor, eps: float) -> Tensor:
    centred_BNT = x_BNT - x_BNT.mean(-1, keepdim=True)
    return centred_BNT * (centred_BNT.square().mean(-1, keepdim=True) + eps).rsqrt()


class TokenModule(nn.Module):
    """Low-rank tokens of all layers and REIN's two shared linear layers, for methods that hold more than one set."""

    def __init__(self, spec: EncoderSpec, tokens: int, rank: int) -> None:
        """Initialised as REIN.

        Args:
            spec: the encoder.
            tokens: number of tokens T of a layer.
            rank: inner width of the tokens.
        """
        super().__init__()
        fan = math.sqrt(spec.width * rank)
        self.tokens_a = uniform_tokens(spec, fan, spec.blocks, tokens, rank)
        self.tokens_b = uniform_tokens(spec, fan, spec.blocks, rank, spec.width)
        self.token_to_feature, self.output = token_linears(spec.width)

    def bank(self) -> Tensor:
        """Tokens of all layers [L, T, D]."""
        return self.tokens_a @ self.tokens_b

    def forward(self, x_BND: Tensor, layer: int, standardise: Standardise = "nothing", sink: bool = True) -> Tensor:
        """W2 (u + x), u the update of `token_update` by the tokens of `layer`; neither scaled nor added to x."""
        # spectra stay in fp32, also between modules in bf16
        x_BND = x_BND.to(self.tokens_a.dtype)
        a_TR, b_RD = self.tokens_a[layer], self.tokens_b[layer]
        update_BND = low_rank_update(x_BND, a_TR, b_RD, self.token_to_feature, standardise, sink)
        delta_BND: Tensor = self.output(update_BND + x_BND)
        return delta_BND

    @staticmethod
    def count(spec: EncoderSpec, tokens: int, rank: int) -> int:
        """Number of parameters: L r (T + D) + 2 (D + 1) D."""
        return spec.blocks * rank * (tokens + spec.width) + 2 * (spec.width + 1) * spec.width


class QueryLink(nn.Module):
    """Turns the adaptive tokens of all layers into linked query positions (REIN, CVPR 2024, section 3.3).

    For each token position and channel it takes the maximum and the mean over layers and the last layer's value;
    the three statistics of a channel stand side by side.
    """

    def __init__(self, width: int, query_width: int) -> None:
        """Two linear layers with PyTorch's default initialisation: `transform` D -> C and `merge` 3C -> C."""
        super().__init__()
        self.transform = nn.Linear(width, query_width)
        self.merge = nn.Linear(3 * query_width, query_width)

    def forward(self, tokens_LTD: Tensor) -> Tensor:
        """Tokens [L, T, D] -> query positions [T, C]."""
        linked_TCL = self.transform(tokens_LTD).permute(1, 2, 0)
        statistics_TC3 = torch.stack([linked_TCL.amax(-1), linked_TCL.mean(-1), linked_TCL[..., -1]], dim=-1)
        merged: Tensor = self.merge(statistics_TC3.flatten(1))
        return merged

    @staticmethod
    def count(width: int, query_width: int) -> int:
        """Number of parameters: (D + 1) C + (3C + 1) C."""
        return (width + 1) * query_width + (3 * query_width + 1) * query_width


class SplitQKV(nn.Module):
    """A fused query-key-value layer as three, so that low-rank factors can reach one of them alone.

    The output equals the fused layer's bit for bit up to the order of the same products.
    """

    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear

    def __init__(self, fused: nn.Linear) -> None:
        """Slice the fused layer [3D, D] in the order query, key, value."""
        super().__init__()
        width = fused.out_features // 3
        for i, name in enumerate(("q_proj", "k_proj", "v_proj")):
            part = nn.Linear(fused.in_features, width, bias=fused.bias is not None, device=fused.weight.device)
            rows = slice(i * width, (i + 1) * width)
            part.weight = nn.Parameter(fused.weight.detach()[rows].clone(), requires_grad=False)
            if fused.bias is not None:
                part.bias = nn.Parameter(fused.bias.detach()[rows].clone(), requires_grad=False)
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the three layers [.., D] -> [.., 3D]."""
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)


ATTENTION_LAYERS = {"qkv_fused": ("qkv",), "qv": ("q_proj", "v_proj"), "qkvo": ("q_proj", "k_proj", "v_proj", "proj")}
"""Which linear layers of a block's attention a tuner adapts, by the name of its target."""


def attention_pattern(target: str) -> str:
    """Those layers in every block as a regular expression on module names, for `peft`."""
    return rf"blocks\.\d+\.attn\.(qkv\.)?({'|'.join(ATTENTION_LAYERS[target])})"


def split_qkv(encoder: nn.Module) -> None:
    """Replace every fused `qkv` layer of the encoder's blocks by `SplitQKV`, in place."""
    expose_qkv(encoder)
    for module in list(encoder.modules()):
        fused = getattr(module, "qkv", None)
        if isinstance(fused, nn.Linear):
            module.qkv = SplitQKV(fused)


def expose_qkv(encoder: nn.Module) -> None:
    """Make every fused `qkv` layer be called as a module, so that a wrapper around it acts.

    Attention classes that apply the fused weight functionally (timm's `EvaAttention` with a joint bias) would bypass
    any wrapper silently; they are switched to their bit-identical separate form.
    """
    for module in encoder.modules():
        if getattr(module, "q_bias", None) is not None:
            setattr(module, "qkv_bias_separate", True)  # noqa: B010 (not declared by nn.Module)
