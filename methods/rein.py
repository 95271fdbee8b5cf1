"""REIN: learnable tokens per layer that refine the patch tokens after every block (CVPR 2024).

Written from the equations of the paper; the forward agrees with vectors of the released module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from methods.base import EncoderSpec, Method, Queries
from methods.loading import load_exactly, take
from methods.options import ReinOptions
from methods.parts import QueryLink, low_rank_update, token_linears, token_update, uniform_tokens


class Rein(Method):
    """Token-to-feature attention with one output layer shared by all blocks."""

    Options: ClassVar[type[ReinOptions]] = ReinOptions
    identity_at_init = False
    no_weight_decay = ("tokens_a", "tokens_b", "tokens", "scale")

    def __init__(self, spec: EncoderSpec, options: ReinOptions) -> None:
        """As many tokens as the head has queries; U(-v, v) with v = sqrt(6 / (3 p^2 + sqrt(D r))) (full rank: + D)."""
        super().__init__(spec, options)
        self.options = options
        if options.rank:
            fan = math.sqrt(spec.width * options.rank)
            self.tokens_a = uniform_tokens(spec, fan, spec.blocks, spec.queries, options.rank)
            self.tokens_b = uniform_tokens(spec, fan, spec.blocks, options.rank, spec.width)
        else:
            self.tokens = uniform_tokens(spec, spec.width, spec.blocks, spec.queries, spec.width)
        self.token_to_feature, self.output = token_linears(spec.width)
        if options.zero_init:
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)
        else:
            self.scale = nn.Parameter(torch.tensor(options.scale_init))
        self.link = QueryLink(spec.width, spec.query_width) if spec.linked else None

    def bank(self) -> Tensor:
        """Tokens of all layers [L, T, D]."""
        return self.tokens_a @ self.tokens_b if self.options.rank else self.tokens

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor:
        """One step of REIN in which the patch tokens ask for themselves."""
        return self.step(x_BND, layer, query_BND=x_BND)

    def step(self, x_BND: Tensor, layer: int, query_BND: Tensor) -> Tensor:
        """f' = f + s W2 (S[:, 1:] (T[1:] W1) + f), S = softmax(q T^T / sqrt(D)); token 0 is a sink (REIN Eq. 2-6)."""
        if self.options.rank:
            update_BND = low_rank_update(query_BND, self.tokens_a[layer], self.tokens_b[layer], self.token_to_feature)
        else:
            update_BND = token_update(query_BND, self.tokens[layer], self.token_to_feature)
        delta_BND: Tensor = self.output(update_BND + x_BND)
        return x_BND + (delta_BND if self.options.zero_init else self.scale * delta_BND)

    def queries(self) -> Queries | None:
        """Query positions linked from all tokens, token 0 included."""
        if self.link is None:
            return None
        return Queries(position_QC=self.link(self.bank()), replace_content=self.options.replace_content)

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor], encoder_spec: EncoderSpec, **options: Any) -> Self:
        """Read a released `Reins` or `LoRAReins` state dict; rank and variant are read off its names and shapes."""
        low_rank = "learnable_tokens_a" in state_dict
        options.setdefault("rank", state_dict["learnable_tokens_a"].shape[-1] if low_rank else 0)
        options.setdefault("zero_init", "scale" not in state_dict)
        names = {
            **({"learnable_tokens_a": "tokens_a", "learnable_tokens_b": "tokens_b"} if low_rank else {}),
            **({} if low_rank else {"learnable_tokens": "tokens"}),
            **({"scale": "scale"} if "scale" in state_dict else {}),
            **{f"{t}.{p}": f"{o}.{p}" for t, o in _LINEARS.items() for p in ("weight", "bias")},
        }
        for name in (f"{link}.{part}" for link in _LINKS for part in ("weight", "bias")):
            # registered even where the link is off
            if encoder_spec.linked or name in state_dict:
                names[name] = f"link.{name}" if encoder_spec.linked else ""
        method = cls(encoder_spec, cls.Options.make(options))
        state = take(state_dict, names, cls.Options.title)
        load_exactly(method, state, cls.Options.title)
        return method

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: ReinOptions) -> int:
        """L (m r + r D) + 2 (D^2 + D) + link + 1 (sheet, section 6)."""
        m, r, d = spec.queries, options.rank, spec.width
        tokens = spec.blocks * (m * r + r * d if r else m * d)
        link = QueryLink.count(d, spec.query_width) if spec.linked else 0
        return tokens + 2 * (d * d + d) + link + (0 if options.zero_init else 1)


_LINEARS = {"mlp_token2feat": "token_to_feature", "mlp_delta_f": "output"}
_LINKS = ("transform", "merge")
