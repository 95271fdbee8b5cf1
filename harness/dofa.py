"""DOFA, the encoder that makes its patch embedding from the wavelengths of the bands it is given.

Source: Xiong et al., "Neural plasticity-inspired multimodal foundation model for Earth observation", 2024; the model
is torchgeo's class, which returns pooled features alone, so that the way through its blocks is walked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn
from torchgeo.models.dofa import DOFA

from harness.backbones import Encoder


def build_dofa(options: Mapping[str, Any]) -> DOFA:
    """The model with its fixed sine and cosine positions, which torchgeo leaves at zero until a checkpoint is read."""
    model = DOFA(num_classes=0, **options)
    side = model.img_size // model.patch_size
    grid_ND = build_sincos2d_pos_embed([side, side], model.embed_dim)
    with torch.no_grad():
        model.pos_embed.copy_(torch.cat([torch.zeros(1, model.embed_dim), grid_ND])[None])
    return model


class DofaEncoder(Encoder):
    """A frozen DOFA for the bands of a task.

    Attributes:
        wavelengths: centre of each band in micrometres, in the order of the images' bands.
    """

    def __init__(self, model: nn.Module, feature_blocks: Sequence[int], wavelengths: Sequence[float]) -> None:
        """Freeze the model; `ValueError` if a wavelength is none of light in micrometres."""
        super().__init__(model, feature_blocks)
        for wavelength in wavelengths:
            if not 0.1 <= wavelength <= 100:
                raise ValueError(f"band centre {wavelength}: DOFA takes micrometres, 0.1 to 100")
        self.wavelengths = tuple(wavelengths)

    @property
    def prefix_tokens(self) -> int:
        """The class token."""
        return 1

    def forward(self, x_BCHW: Tensor, every_block: bool = False) -> list[Tensor]:
        """Images [B, bands, H, W] -> maps [B, D, h, w] of the feature blocks (or every block), without final norm."""
        model: Any = self.model
        grid = (x_BCHW.shape[-2] // self.patch_size, x_BCHW.shape[-1] // self.patch_size)
        # bf16 cannot hold hundreds of radians, whose sines make the kernel
        with torch.autocast(x_BCHW.device.type, enabled=False):
            tokens_BND, _ = model.patch_embed(x_BCHW.float(), torch.tensor(self.wavelengths, device=x_BCHW.device))
        positions = resample_abs_pos_embed(model.pos_embed, list(grid), num_prefix_tokens=1)
        prefix_B1D = (model.cls_token + positions[:, :1]).expand(len(x_BCHW), -1, -1)
        tokens_BND = torch.cat([prefix_B1D, tokens_BND + positions[:, 1:]], dim=1)
        maps = []
        for block in self.blocks:
            tokens_BND = block(tokens_BND)
            maps.append(tokens_BND[:, 1:].mT.unflatten(2, grid))
        return maps if every_block else [maps[i] for i in self.feature_blocks]
