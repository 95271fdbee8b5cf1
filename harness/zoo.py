"""The backbones by name: what to build at each scale and where its weights come from. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.tasks import Band, short_hash
from harness.weight_sources import Source, sources_of
from harness.weight_store import find_file

WEIGHTS = Path(__file__).parent / "weights"
HUB = "hub:"
"""What the names of published weights begin with."""

NIR = Band(name="NIR", centre_um=0.83)
RGB = (
    Band(name="R", centre_um=0.665),
    Band(name="G", centre_um=0.56),
    Band(name="B", centre_um=0.49),
)
"""What red, green and blue are wherever bands are chosen by wavelength."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """One size of a backbone.

    Args:
        name: the backbone's name at this size.
        weights: a file name in `harness/weights`, or `hub:` and what `weight_sources.sources_of` knows them by.
        feature_blocks: blocks whose outputs feed the head.
        options: what the entry point is called with.
        files: the published files, where `weight_sources` does not know them.
    """

    name: str
    weights: str
    feature_blocks: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Source, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """The published files that hold its weights, the one to fetch first; none for shipped ones."""
        if not self.weights.startswith(HUB):
            return ()
        return self.files or sources_of(self.weights.removeprefix(HUB))

    @property
    def digest(self) -> str:
        """What stands for the weights in the trial key: the file's SHA-256, or their name while no such file is here.

        Raises:
            ValueError: the shipped file is missing, or a published one is not what it was.
        """
        if self.sources:
            found = find_file(self.sources)
            return found.digest() if found else self.weights
        path = WEIGHTS / self.weights
        if not path.is_file():
            raise ValueError(
                f"weight file {path.name} is missing from harness/weights: restore it from the repository, "
                f"or make it again with `python run.py pretrain`"
            )
        return _sha256(path, path.stat().st_mtime_ns)


@cache
def _sha256(path: Path, changed_ns: int) -> str:
    """Of a file as it was when last changed: a plan asks once for every trial."""
    return short_hash(path.read_bytes())


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """A frozen encoder: how it is made, the bands it was pretrained on, and a build for each scale.

    Args:
        name: its name, whatever the size.
        title: for tables.
        entry: the timm entry point, or `dofa`.
        bands: bands it was pretrained on, in order.
        builds: by size, `mini` and `paper`, or `paper` alone.
        by_wavelength: its patch embedding is made from the bands' wavelengths; any bands fit, none are expanded.
    """

    name: str
    title: str
    entry: str
    bands: tuple[Band, ...]
    builds: Mapping[str, Build]
    by_wavelength: bool = False


_TINY = {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 6, "num_heads": 4}
# timm drops a None for init_values and starts layer scale at 1e-5: the blocks of a small encoder would do nothing
_SCALED = {**_TINY, "init_values": 1.0}
_DYNAMIC = {"dynamic_img_size": True}
# kernels are made 16 px wide; the table of positions keeps its published grid, which timm fits to each image: it is
# resampled once, whatever the crop
_GRID_16 = {"img_size": 16 * 16, "patch_size": 16, **_DYNAMIC}
_GRID_37 = {"img_size": 16 * 37, "patch_size": 16, **_DYNAMIC}


def _builds(
    name: str,
    hub: str,
    mini: Mapping[str, Any],
    paper: Mapping[str, Any],
    blocks: tuple[int, ...] = (7, 11, 15, 23),
) -> dict[str, Build]:
    """The two sizes of a backbone; `name` is that of the published one, `dinov3_l`."""
    short = name.rpartition("_")[0]
    return {
        "mini": Build(
            name=short, weights=f"{short}_mini.safetensors", feature_blocks=(1, 2, 3, 5), options={**_TINY, **mini}
        ),
        "paper": Build(
            name=name,
            weights=f"{HUB}{hub}",
            feature_blocks=blocks,
            options=paper,
        ),
    }


_SPECS = (
    BackboneSpec(
        name="clip",
        title="CLIP",
        entry="vit_large_patch14_clip_quickgelu_224",
        bands=RGB,
        builds=_builds(
            "clip_l",
            "vit_large_patch14_clip_quickgelu_224.openai",
            mini=_DYNAMIC,
            paper=_GRID_16,
        ),
    ),
    BackboneSpec(
        name="sam",
        title="SAM",
        entry="samvit_huge_patch16",
        bands=RGB,
        builds=_builds(
            "sam_h",
            "samvit_huge_patch16.sa1b",
            # timm's window of 14 would pad the 8 x 8 grid to 14 x 14 in every block
            mini={"global_attn_indexes": (1, 3, 5), "window_size": 4, "neck_chans": 0},
            paper={},
            blocks=(7, 15, 23, 31),
        ),
    ),
    BackboneSpec(
        name="eva02",
        title="EVA02",
        entry="eva02_large_patch14_224",
        bands=RGB,
        builds=_builds(
            "eva02_l",
            "eva02_large_patch14_224.mim_m38m",
            mini={"ref_feat_shape": (8, 8), **_DYNAMIC},
            paper=_GRID_16,
        ),
    ),
    BackboneSpec(
        name="dinov2",
        title="DINOv2",
        entry="vit_large_patch14_dinov2",
        bands=RGB,
        builds=_builds(
            "dinov2_l",
            "vit_large_patch14_dinov2.lvd142m",
            mini={**_SCALED, **_DYNAMIC},
            paper=_GRID_37,
        ),
    ),
    BackboneSpec(
        name="dinov3",
        title="DINOv3",
        entry="vit_large_patch16_dinov3",
        bands=RGB,
        builds=_builds("dinov3_l", "vit_large_patch16_dinov3.lvd1689m", mini=_SCALED, paper={}),
    ),
    BackboneSpec(
        name="dofa",
        title="DOFA",
        entry="dofa",
        bands=(NIR, *RGB),
        builds=_builds(
            "dofa_l",
            "torchgeo/dofa/dofa_large_patch16_224-0ff904d3.pth",
            mini={},
            paper={"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16},
        ),
        by_wavelength=True,
    ),
)

BACKBONES: dict[str, BackboneSpec] = {spec.name: spec for spec in _SPECS}

BACKBONE_NAMES: dict[str, BackboneSpec] = BACKBONES | {spec.builds["paper"].name: spec for spec in _SPECS}
"""Those, and the same by the names of their published sizes: `dinov3_l` is `dinov3` at the paper's scale."""


def _depth(title: str, name: str, hub: str) -> BackboneSpec:
    mini = Build(
        name="depth",
        weights="depth_mini.safetensors",
        feature_blocks=(0, 1, 2, 3),
        options={**_SCALED, "depth": 4, **_DYNAMIC},
    )
    paper = Build(
        name=name,
        weights=f"{HUB}{hub}",
        feature_blocks=(7, 11, 15, 23),
        options=_GRID_37,
    )
    return BackboneSpec(
        name="depth",
        title=title,
        entry="vit_large_patch14_dinov2",
        bands=RGB,
        builds={"mini": mini, "paper": paper},
    )


DEPTH_ENCODERS: dict[str, BackboneSpec] = {
    "promptda": _depth("Prompt Depth Anything", "promptda_l", "depth-anything/prompt-depth-anything-vitl/model.ckpt"),
    "depth_anything": _depth(
        "Depth Anything V2",
        "depth_anything_l",
        "depth-anything/Depth-Anything-V2-Large/depth_anything_v2_vitl.pth",
    ),
}
"""Encoders of monocular depth networks, of which only the ViT is built; at the mini scale all are the same one."""

DEPTH_ENCODER = DEPTH_ENCODERS["promptda"]
"""That of the protocol's default."""
