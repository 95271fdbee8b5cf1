"""The backbones by name: what to build at each scale and where its weights come from. Free of torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.tasks import Band

WEIGHTS = Path(__file__).parent / "weights"

RGB = (
    Band(name="R", centre_um=0.665),
    Band(name="G", centre_um=0.56),
    Band(name="B", centre_um=0.49),
)


@dataclass(frozen=True, kw_only=True)
class Build:
    """One size of a backbone.

    Args:
        weights: a file name in `harness/weights`, or `hub:` and the name a published checkpoint has there.
        feature_blocks: blocks whose outputs feed the head.
        options: what the timm entry point is called with.
    """

    weights: str
    feature_blocks: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What stands for the weights in the trial key: the file's SHA-256, or the published checkpoint's name.

        Raises:
            ValueError: the shipped file is missing.
        """
        if self.weights.startswith("hub:"):
            return self.weights
        path = WEIGHTS / self.weights
        if not path.is_file():
            raise ValueError(
                f"weight file {path.name} is missing from harness/weights: restore it from the repository, "
                f"or make it again with `python run.py pretrain`"
            )
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """A frozen encoder: its timm entry point, the bands it was pretrained on, and a build for each scale."""

    name: str
    title: str
    entry: str
    bands: tuple[Band, ...]
    builds: Mapping[str, Build]


# init_values: timm drops a None and starts layer scale at 1e-5, so that the blocks of a small encoder would do nothing
_TINY = {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 6, "num_heads": 4, "init_values": 1.0}

BACKBONES: dict[str, BackboneSpec] = {
    "dinov3": BackboneSpec(
        name="dinov3",
        title="DINOv3",
        entry="vit_large_patch16_dinov3",
        bands=RGB,
        builds={
            "mini": Build(weights="dinov3_mini.safetensors", feature_blocks=(1, 2, 3, 5), options=_TINY),
            "paper": Build(
                weights="hub:vit_large_patch16_dinov3.lvd1689m",
                feature_blocks=(7, 11, 15, 23),
                options={"img_size": 512},
            ),
        },
    ),
}

DEPTH_ENCODER = BackboneSpec(
    name="depth",
    title="depth encoder",
    entry="vit_large_patch14_dinov2",
    bands=RGB,
    builds={
        "mini": Build(
            weights="depth_mini.safetensors",
            feature_blocks=(0, 1, 2, 3),
            options={**_TINY, "depth": 4, "dynamic_img_size": True},
        ),
        "paper": Build(
            weights="hub:depth-anything/Depth-Anything-V2-Large/depth_anything_v2_vitl.pth",
            feature_blocks=(7, 11, 15, 23),
            options={"img_size": 512, "patch_size": 16, "dynamic_img_size": True},
        ),
    },
)
"""The encoder of a monocular depth network; of the published one only the ViT is built."""
