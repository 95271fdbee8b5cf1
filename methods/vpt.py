"""VPT-deep: learned prompts for every block (Jia et al., ECCV 2022, section 3.2), as extra keys and values.

The prompts' own outputs are dropped after every block, so all they do is offer the other tokens something to attend
to. Adding the keys W_k LN(p) and the values W_v LN(p) to the block's attention is therefore the same as inserting the
prompts p into its input; it costs no queries and no MLP, and it works in windows and with rotary positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from timm.layers.attention import Attention
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import EvaAttention
from timm.models.vision_transformer_sam import Attention as SamAttention
from timm.models.vision_transformer_sam import get_decomposed_rel_pos_bias
from torch import Tensor, nn

from methods.base import EncoderSpec, Method
from methods.options import VptOptions


class PromptedAttention(nn.Module):
    """A block's frozen attention whose queries, all of them, also see the prompts.

    Prompts have no position: rotary embeddings leave their keys alone, and SAM's relative-position bias has zero
    columns for them. In a windowed block every window sees all of them.

    Args:
        attention: timm's `Attention`, `EvaAttention` (fused or split) or SAM's `Attention`.
        norm: the block's norm before its attention.
        prompts_PD: first values of the prompts.
        dropout: on the prompts.
    """

    def __init__(self, attention: Any, norm: nn.Module, prompts_PD: Tensor, dropout: float) -> None:
        """Take the place of `attention` in its block."""
        super().__init__()
        self.attention: Any = attention
        self.num_heads = int(attention.num_heads)
        # in a tuple: the norm is the block's, and a second name would put it into the state dict twice
        self._norm = (norm,)
        self.prompts = nn.Parameter(prompts_PD)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Normalised tokens [B, prefix + N, D], or SAM's grid or window [B, H, W, D] -> the attention's output."""
        assert attn_mask is None, "an image encoder's tokens all see each other"
        assert not is_causal
        frozen = self.attention
        tokens_BND = x.flatten(1, -2)
        q, k, v = self._heads(tokens_BND)
        bias = self._position_bias(q, x)
        if rope is not None:
            q, k = (_rotate(t, rope, frozen).type_as(v) for t in (q, k))
        prompts_PD = self._norm[0](self.dropout(self.prompts))
        _, prompt_k, prompt_v = self._heads(prompts_PD[None])
        k = torch.cat([k, prompt_k.expand(len(k), -1, -1, -1)], dim=2)
        v = torch.cat([v, prompt_v.expand(len(v), -1, -1, -1)], dim=2)
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        y_BND = y.transpose(1, 2).flatten(2)
        if not isinstance(frozen, SamAttention):
            y_BND = frozen.norm(y_BND)
            gate = getattr(frozen, "gate", None)  # older timm has none
            if gate is not None:
                y_BND = y_BND * gate(tokens_BND).sigmoid()
        out: Tensor = frozen.proj_drop(frozen.proj(y_BND))
        return out.reshape(x.shape)

    def _heads(self, x_BND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, heads, N, D / heads], with the norms a head may have."""
        frozen = self.attention
        if frozen.qkv is None:
            parts = [frozen.q_proj(x_BND), frozen.k_proj(x_BND), frozen.v_proj(x_BND)]
        else:
            qkv = frozen.qkv(x_BND)
            if getattr(frozen, "q_bias", None) is not None:
                qkv = qkv + torch.cat([frozen.q_bias, frozen.k_bias, frozen.v_bias])
            parts = qkv.chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        return frozen.q_norm(q), frozen.k_norm(k), v

    def _position_bias(self, q_BhNC: Tensor, x: Tensor) -> Tensor | None:
        """SAM's decomposed relative-position bias [B, heads, N, N + P], zero for the prompts."""
        frozen = self.attention
        if not getattr(frozen, "use_rel_pos", False):
            return None
        size = (x.shape[1], x.shape[2])
        bias: Tensor = get_decomposed_rel_pos_bias(q_BhNC.flatten(0, 1), frozen.rel_pos_h, frozen.rel_pos_w, size, size)
        padded: Tensor = nn.functional.pad(bias, (0, len(self.prompts))).unflatten(0, q_BhNC.shape[:2])
        return padded


def _rotate(t_BhNC: Tensor, rope: Tensor, attention: Any) -> Tensor:
    """Rotary positions on the patch tokens; class and register tokens have none."""
    prefix, patches = t_BhNC.tensor_split([attention.num_prefix_tokens], dim=2)
    return torch.cat([prefix, apply_rot_embed_cat(patches, rope, half=attention.rotate_half)], dim=2)


class Vpt(Method):
    """Visual prompt tuning, deep: prompts of its own for every block."""

    Options = VptOptions
    identity_at_init = False
    no_weight_decay = ("prompts",)

    def __init__(self, spec: EncoderSpec, options: VptOptions) -> None:
        """Keep the options; the prompts are made by `install`, beside the attention they serve."""
        super().__init__(spec, options)
        self.options = options

    def install(self, encoder: nn.Module) -> None:
        """Put `PromptedAttention` in the place of every block's attention."""
        bound = initial_bound(self.spec, self.options)
        for block in cast(Iterable[Any], encoder.blocks):
            if not isinstance(block.attn, (Attention, EvaAttention, SamAttention)) or _rotates_windows(block.attn):
                raise ValueError(f"vpt cannot add keys and values to {type(block.attn).__name__}: take another method")
            shape = (self.options.prompts, self.spec.width)
            prompts_PD = torch.empty(shape, device=block.norm1.weight.device).uniform_(-bound, bound)
            block.attn = PromptedAttention(block.attn, block.norm1, prompts_PD, self.options.dropout)

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: VptOptions) -> int:
        """L P D."""
        return spec.blocks * options.prompts * spec.width


def _rotates_windows(attention: nn.Module) -> bool:
    return isinstance(attention, SamAttention) and attention.rope is not None


def initial_bound(spec: EncoderSpec, options: VptOptions) -> float:
    """Half the width of the uniform distribution the prompts are drawn from.

    `official`: sqrt(6 / (3 p² + D)) for patch side p, the 3 kept for any number of bands. `xavier`: Xavier-uniform on
    a tensor [1, P, D], whose fans torch reads as P D and D.
    """
    if options.init == "official":
        return math.sqrt(6 / (3 * spec.patch_size**2 + spec.width))
    return math.sqrt(6 / (options.prompts * spec.width + spec.width))
