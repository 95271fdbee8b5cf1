"""LoRA by HuggingFace `peft`: low-rank factors beside the attention's linear layers.

y = W x + b + (alpha / r) B A x, with A Kaiming-uniform and B zero, so that training starts from the frozen model.
The paper's count (0.79 M at ViT-L) does not tell the placement; rank 8 on query and value is the original practice.
"""

from __future__ import annotations

from peft import LoraConfig, get_peft_model
from torch import nn

from methods.base import EncoderSpec, Method
from methods.options import LoraOptions
from methods.parts import attention_pattern, expose_qkv, split_qkv


class Lora(Method):
    """Low-rank adaptation of the attention layers (Hu et al., ICLR 2022)."""

    Options = LoraOptions
    no_weight_decay = ("lora_A.default.weight", "lora_B.default.weight")

    def __init__(self, spec: EncoderSpec, options: LoraOptions) -> None:
        """Keep the options; the factors are made by `install`."""
        super().__init__(spec, options)
        self.options = options

    def install(self, encoder: nn.Module) -> None:
        """Put the factors beside the layers named by `target`, in place."""
        if self.options.target == "qkv_fused":
            expose_qkv(encoder)
        else:
            split_qkv(encoder)
        config = LoraConfig(
            r=self.options.rank,
            lora_alpha=self.options.alpha or self.options.rank,
            lora_dropout=self.options.dropout,
            target_modules=attention_pattern(self.options.target),
        )
        get_peft_model(encoder, config)

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: LoraOptions) -> int:
        """Factors of one adapted layer hold r (in + out) parameters."""
        per_block = {"qv": 2 * 2, "qkv_fused": 1 + 3, "qkvo": 4 * 2}[options.target] * spec.width
        return spec.blocks * options.rank * per_block
