"""What several methods share: the link from adaptive tokens to the head's queries, and split query-key-value layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
