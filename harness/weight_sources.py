"""Published weight files: where each comes from, under which licence and in which format. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

HUB = "https://huggingface.co"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file of a model repository on the Hugging Face hub.

    Args:
        repository: owner and name there.
        file: its name in the repository.
        licence: of the weights.
        gated: the hub gives it only to accounts that accepted the licence.
        gigabytes: size, for people; 0 if unknown.
        published_as: whose tensor names it has: `timm`, `transformers` (DINOv2 or DINOv3), `depth` (a depth network
            around a DINOv2 encoder) or `dofa`.
        sha256_begins: what its SHA-256 begins with, where its publisher says so.
        absent: tensors of our model that it lacks and no feature depends on.
        unused: tensors it has, by the model's names, that no feature depends on.
    """

    repository: str
    file: str = "model.safetensors"
    licence: str = "see its page"
    gated: bool = False
    gigabytes: float = 0.0
    published_as: str = "timm"
    sha256_begins: str = ""
    absent: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Repository and file."""
        return f"{self.repository}/{self.file}"

    @property
    def page(self) -> str:
        """Address of the repository."""
        return f"{HUB}/{self.repository}"


_CLASSIFIER = ("head.weight", "head.bias")

# Sizes, licences and file names as the hub's pages gave them in 2025
_KNOWN: dict[str, tuple[Source, ...]] = {
    "vit_large_patch14_clip_quickgelu_224.openai": (
        Source(
            repository="timm/vit_large_patch14_clip_224.openai",
            licence="Apache-2.0",
            gigabytes=1.22,
            # the projection to CLIP's common space; 768 wide
            unused=_CLASSIFIER,
        ),
    ),
    "samvit_huge_patch16.sa1b": (
        Source(repository="timm/samvit_huge_patch16.sa1b", licence="Apache-2.0", gigabytes=2.55),
    ),
    "eva02_large_patch14_224.mim_m38m": (
        Source(repository="timm/eva02_large_patch14_224.mim_m38m", licence="MIT", gigabytes=1.21),
    ),
    "vit_large_patch14_dinov2.lvd142m": (
        Source(repository="timm/vit_large_patch14_dinov2.lvd142m", licence="Apache-2.0", gigabytes=1.22),
        Source(repository="facebook/dinov2-large", licence="Apache-2.0", gigabytes=1.22, published_as="transformers"),
    ),
    "vit_large_patch16_dinov3.lvd1689m": (
        Source(repository="timm/vit_large_patch16_dinov3.lvd1689m", licence="DINOv3 licence", gigabytes=1.21),
        Source(
            repository="facebook/dinov3-vitl16-pretrain-lvd1689m",
            licence="DINOv3 licence",
            gated=True,
            gigabytes=1.21,
            published_as="transformers",
        ),
    ),
    "torchgeo/dofa/dofa_large_patch16_224-0ff904d3.pth": (
        Source(
            repository="torchgeo/dofa",
            file="dofa_large_patch16_224-0ff904d3.pth",
            licence="CC-BY-4.0",
            gigabytes=1.35,
            published_as="dofa",
            sha256_begins="0ff904d3",
            # the norm of pooled features, made anew for each use of the model
            absent=("fc_norm.weight", "fc_norm.bias"),
        ),
    ),
    "depth-anything/prompt-depth-anything-vitl/model.ckpt": (
        Source(
            repository="depth-anything/prompt-depth-anything-vitl",
            file="model.ckpt",
            licence="Apache-2.0",
            gigabytes=1.36,
            published_as="depth",
        ),
        Source(
            repository="depth-anything/prompt-depth-anything-vitl-hf",
            licence="Apache-2.0",
            gigabytes=1.36,
            published_as="transformers",
        ),
    ),
    "depth-anything/Depth-Anything-V2-Large/depth_anything_v2_vitl.pth": (
        Source(
            repository="depth-anything/Depth-Anything-V2-Large",
            file="depth_anything_v2_vitl.pth",
            licence="CC-BY-NC-4.0",
            gigabytes=1.34,
            published_as="depth",
        ),
        Source(
            repository="depth-anything/Depth-Anything-V2-Large-hf",
            licence="CC-BY-NC-4.0",
            gigabytes=1.34,
            published_as="transformers",
        ),
    ),
}


def sources_of(name: str) -> tuple[Source, ...]:
    """The files that hold some published weights, the one to fetch first.

    Args:
        name: of a build in `harness/zoo.py`: a model name of timm with its tag, or `owner/repository/file`.
    """
    return _KNOWN[name]
