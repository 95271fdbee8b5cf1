"""Frozen encoders behind one class; the depth encoder is one of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import timm
import torch
from safetensors.torch import load_file
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from benchmarks.tasks import Band
from harness.bands import expand_kernel
from harness.zoo import WEIGHTS, BackboneSpec, Build

log = logging.getLogger(__name__)

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
            block.register_forward_hook(lambda _module, _inputs, output, i=i: hook(output, i))

    def forward(self, x_BCHW: Tensor, every_block: bool = False) -> list[Tensor]:
        """Images [B, bands, H, W] -> maps [B, D, h, w] of the feature blocks (or every block), without final norm."""
        indices = list(range(len(self.blocks))) if every_block else list(self.feature_blocks)
        maps = self.model.forward_intermediates(x_BCHW, indices=indices, intermediates_only=True, norm=False)  # type: ignore[operator]
        return cast(list[Tensor], maps)


def build_encoder(spec: BackboneSpec, size: str, bands: Sequence[Band], expansion: str, init: str) -> Encoder:
    """Build a backbone for a task's bands: by their wavelengths where it can, else by expanding its patch embedding.

    Args:
        spec: which backbone.
        size: `mini` or `paper`.
        bands: the bands it will be fed, in order.
        expansion: how its patch embedding meets them (see `bands.expand_kernel`).
        init: `pretrained`, or `random` (drawn from torch's default generator).

    Raises:
        ValueError: the weights are missing, cannot be fetched or do not fit.
    """
    build = spec.builds[size]
    model = _create(spec, build)
    if init == "pretrained":
        _load_weights(model, spec, build)
    if spec.entry == "dofa":
        from harness.dofa import DofaEncoder

        return DofaEncoder(model, build.feature_blocks, [band.centre_um for band in bands])
    projection: nn.Conv2d = model.patch_embed.proj
    kernel = expand_kernel(projection.weight.detach(), spec.bands, bands, expansion)
    projection.weight, projection.in_channels = nn.Parameter(kernel.contiguous()), len(bands)
    return Encoder(model, build.feature_blocks)


def _create(spec: BackboneSpec, build: Build) -> Any:
    if spec.entry == "dofa":
        from harness.dofa import build_dofa  # its library costs seconds to import

        return build_dofa(build.options)
    return timm.create_model(spec.entry, num_classes=0, **build.options)


def _load_weights(model: nn.Module, spec: BackboneSpec, build: Build) -> None:
    if not build.weights.startswith("hub:"):
        state = load_file(WEIGHTS / build.weights)
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
        return
    name = build.weights.removeprefix("hub:")
    log.info("fetching %s", name)
    try:
        if build.published_as == "timm":
            state = timm.create_model(name, pretrained=True, num_classes=0, **build.options).state_dict()
        else:
            state = _CONVERTERS[build.published_as](_read_published(name), model)
        model.load_state_dict(state, strict=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"cannot load the published weights {name} of backbone {spec.name}: {error}. Fetch them once where the "
            f"model hub can be reached (they are kept in its cache), or use --scale mini"
        ) from error


def _read_published(name: str) -> dict[str, Tensor]:
    """The state dict of a published file `owner/repository/file`."""
    from huggingface_hub import hf_hub_download

    repository, _, file = name.rpartition("/")
    state: dict[str, Tensor] = torch.load(hf_hub_download(repository, file), map_location="cpu", weights_only=True)
    return state


def depth_anything_encoder(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Keep the encoder's tensors (prefix `pretrained.`) and convert names, patch kernel and position grid with timm."""
    prefix = "pretrained."
    encoder = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return checkpoint_filter_fn(encoder, cast(VisionTransformer, model))


def dofa_encoder(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Resample the position grid to the model's; keep its last norm, which checkpoints lack and features do not use."""
    own = cast(dict[str, Tensor], model.state_dict())
    norm = {name: own[name] for name in own if name.startswith("fc_norm.")}
    side = math.isqrt(own["pos_embed"].shape[1] - 1)
    positions = resample_abs_pos_embed(state["pos_embed"], [side, side], num_prefix_tokens=1)
    return {**norm, **state, "pos_embed": positions}


_CONVERTERS = {"depth_anything": depth_anything_encoder, "dofa": dofa_encoder}
