"""Full fine-tuning: the reference without parameter efficiency."""

from __future__ import annotations

from torch import nn

from methods.base import Method
from methods.options import FullOptions


class Full(Method):
    """The whole backbone trains; there is no adapter, so `expected_count` is that of the base class, 0."""

    Options = FullOptions
    trains_backbone = True
    # as timm's own groups: biases, layer scales, positions and single tokens do not decay (norms never do)
    no_weight_decay = (
        *("bias", "q_bias", "v_bias", "gamma", "gamma_1", "gamma_2"),
        *("pos_embed", "cls_token", "reg_token", "rel_pos_h", "rel_pos_w"),
    )

    def install(self, encoder: nn.Module) -> None:
        """Thaw the encoder, except what follows the feature maps: its last norm, and SAM's neck."""
        encoder.requires_grad_(True)
        for name in ("norm", "fc_norm", "neck"):
            behind = getattr(encoder, name, None)
            if behind is not None:
                behind.requires_grad_(False)
