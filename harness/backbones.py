"""Frozen encoders behind one class; the depth encoder is one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import timm
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from benchmarks.tasks import Band
from harness.bands import expand_kernel
from harness.scales import HeadSizes
from harness.weight_loading import LoadReport, load_published
from harness.zoo import WEIGHTS, BackboneSpec, Build
from methods.base import EncoderSpec

BlockHook = Callable[[Tensor, int], Tensor]


class Encoder(nn.Module):
    """A frozen vision transformer that returns patch-token maps of chosen blocks.

    Attributes:
        model: the timm model; its `blocks` may be wrapped or injected into by a method.
        feature_blocks: blocks whose outputs `forward` returns.
    """

    def __init__(self, model: nn.Module, feature_blocks: Sequence[int]) -> None:
        """Freeze the model and put it in evaluation mode."""
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        # what a method installs later is not among them
        self.own_modules = tuple(self.modules())
        self.feature_blocks = tuple(feature_blocks)
        self._hook: BlockHook | None = None
        self._hooks: list[RemovableHandle] = []

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        return cast(nn.ModuleList, self.model.blocks)

    @property
    def width(self) -> int:
        """Token width D."""
        return cast(int, self.model.embed_dim)

    @property
    def heads(self) -> int:
        """Attention heads per block."""
        attention: Any = self.blocks[0].attn
        return int(attention.num_heads)

    @property
    def mlp_width(self) -> int:
        """Inner width of a block's MLP, as its last layer takes it."""
        mlp: Any = self.blocks[0].mlp
        return int(mlp.fc2.in_features)

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        patch_embed: Any = self.model.patch_embed
        return int(patch_embed.patch_size[0])

    @property
    def prefix_tokens(self) -> int:
        """Class and register tokens before the patch tokens."""
        return int(cast(int, getattr(self.model, "num_prefix_tokens", 0)))

    def hook_blocks(self, hook: BlockHook) -> None:
        """Let `hook(output, block index)` replace the raw output of every block as it now stands."""
        for i, block in enumerate(self.blocks):
            self._hooks.append(block.register_forward_hook(lambda _module, _inputs, output, i=i: hook(output, i)))
        self._hook = hook

    def unhook_blocks(self) -> BlockHook | None:
        """Take off what `hook_blocks` put on; returns it for another way to call it, or None if there is nothing."""
        for handle in self._hooks:
            handle.remove()
        self._hooks.clear()
        return self._hook

    def forward(self, x_BCHW: Tensor, every_block: bool = False) -> list[Tensor]:
        """Images [B, bands, H, W] -> maps [B, D, h, w] of the feature blocks (or every block), without final norm."""
        indices = list(range(len(self.blocks))) if every_block else list(self.feature_blocks)
        maps = self.model.forward_intermediates(x_BCHW, indices=indices, intermediates_only=True, norm=False)  # type: ignore[operator]
        return cast(list[Tensor], maps)


def encoder_spec(encoder: Encoder, crop: int, head: HeadSizes, linked: bool, depth: Encoder | None) -> EncoderSpec:
    """What the method is told about the modules around it."""
    side = crop // encoder.patch_size
    depth_side = crop // depth.patch_size if depth else 0
    return EncoderSpec(
        blocks=len(encoder.blocks),
        width=encoder.width,
        heads=encoder.heads,
        patch_size=encoder.patch_size,
        grid=(side, side),
        prefix_tokens=encoder.prefix_tokens,
        feature_blocks=encoder.feature_blocks,
        queries=head.queries,
        query_width=head.width,
        linked=linked,
        depth_blocks=len(depth.blocks) if depth else 0,
        depth_width=depth.width if depth else 0,
        depth_grid=(depth_side, depth_side),
        mlp_width=encoder.mlp_width,
    )


def build_encoder(spec: BackboneSpec, size: str, bands: Sequence[Band], expansion: str, init: str) -> Encoder:
    """Build a backbone for a task's bands: by their wavelengths where it can, else by expanding its patch embedding.

    Args:
        spec: which backbone.
        size: `mini` or `paper`.
        bands: the bands it will be fed, in order.
        expansion: how its patch embedding meets them (see `bands.expand_kernel`).
        init: `pretrained`, or `random` (drawn from torch's default generator).

    Raises:
        ValueError: the weights are missing, not what they were, or do not fit.
    """
    build = spec.builds[size]
    model = _create(spec, build)
    if init == "pretrained":
        _load_weights(model, build)
    if spec.entry == "dofa":
        from harness.dofa import DofaEncoder

        return DofaEncoder(model, build.feature_blocks, [band.centre_um for band in bands])
    projection: nn.Conv2d = model.patch_embed.proj
    kernel = expand_kernel(projection.weight.detach(), spec.bands, bands, expansion)
    projection.weight, projection.in_channels = nn.Parameter(kernel.contiguous()), len(bands)
    return Encoder(model, build.feature_blocks)


def load_report(spec: BackboneSpec, folder: Path | None = None) -> LoadReport:
    """What becomes of the tensors of a backbone's published file when it is loaded.

    Args:
        spec: which backbone.
        folder: the weights folder, if not the user's own.

    Raises:
        ValueError: the file is missing, not what it was, or does not fit.
    """
    build = spec.builds["paper"]
    return load_published(_create(spec, build), build.name, build.sources, folder)


def _create(spec: BackboneSpec, build: Build) -> Any:
    if spec.entry == "dofa":
        from harness.dofa import build_dofa  # its library costs seconds to import

        return build_dofa(build.options)
    return timm.create_model(spec.entry, num_classes=0, **build.options)


def _load_weights(model: nn.Module, build: Build) -> None:
    if build.sources:
        load_published(model, build.name, build.sources)
        return
    state = load_file(WEIGHTS / build.weights)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
