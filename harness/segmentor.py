"""Backbone, depth encoder, method and head as one module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.tasks import Band
from harness.backbones import Encoder, build_encoder, encoder_spec
from harness.bands import nearest_bands
from harness.head import Mask2FormerHead, Predictions
from harness.head_parts import resized
from harness.lookup import load_class
from harness.means import Thrift
from harness.thrift import hold_in_bf16, recomputed, save
from harness.trial import Trial, stream_seed
from harness.zoo import RGB
from methods.base import Method, Queries

PYRAMID: tuple[float, ...] = (4, 2, 1, 0.5)
"""By which the four maps are finer than the token grid: strides 4, 8, 16 and 32 for patches of 16 pixels."""


@dataclass(frozen=True, kw_only=True)
class DepthInput:
    """The depth encoder and how its cue is served.

    Args:
        encoder: the frozen depth encoder.
        shuffled: serve the features of the image half a batch away, turned by 180 degrees (a control).
        noise: standard deviation of added noise, relative to that of the features.
        spread: pair depth block floor(i * depth blocks / blocks) with backbone block i, else block i or the last one.
        rgb: indices of the bands that it is fed for R, G, B; None for the task's bands nearest to them.
    """

    encoder: Encoder
    shuffled: bool = False
    noise: float = 0.0
    spread: bool = True
    rgb: tuple[int, int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The head's loss, the method's auxiliary loss (0 without one), and their sum."""

    task: Tensor
    auxiliary: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.task + self.auxiliary

    def detached(self) -> Losses:
        """The same values without their graph."""
        return Losses(task=self.task.detach(), auxiliary=self.auxiliary.detach())


class Segmentor(nn.Module):
    """One trial's model. Random numbers for the method and for the head must come from streams of their own.

    Args:
        encoder: the frozen backbone; the method is installed into it.
        depth: the depth encoder and its serving, or None.
        method: the adaptation method.
        head: the Mask2Former head.
        bands: the bands of the images, in order.
        factors: by which the head's four maps are finer than the token grid.
        bf16: run under autocast, the frozen matrices held in bf16.
    """

    def __init__(
        self,
        encoder: Encoder,
        depth: DepthInput | None,
        method: Method,
        head: Mask2FormerHead,
        bands: Sequence[Band],
        factors: Sequence[float] = PYRAMID,
        bf16: bool = False,
    ) -> None:
        """Put refine hooks on the blocks as `method.install` left them."""
        super().__init__()
        self.encoder = encoder
        self.depth = depth
        self.depth_encoder = depth.encoder if depth else None
        self.method = method
        self.head = head
        self.rgb = list(depth.rgb) if depth and depth.rgb else nearest_bands(RGB, bands)
        self.factors = factors
        self.bf16 = bf16
        if bf16:
            for frozen in self._encoders():
                hold_in_bf16(frozen)
        self._adapt: Callable[..., Any] = method.adapt
        self._depth_BMD: list[Tensor] = []
        self._auxiliary: dict[int, Tensor] = {}
        if method.overrides("refine"):
            encoder.hook_blocks(self._refine)

    def save(self, thrift: Thrift) -> None:
        """Save memory or time as asked for, in training; to be called once, when all is installed."""
        for frozen in self._encoders():
            save(frozen, thrift)
        if thrift.recomputes:
            self._adapt = partial(recomputed, self.method.adapt)

    def _encoders(self) -> Iterator[Encoder]:
        yield self.encoder
        if self.depth_encoder:
            yield self.depth_encoder

    def _precision(self, x_BCHW: Tensor) -> torch.autocast:
        return torch.autocast(x_BCHW.device.type, torch.bfloat16, enabled=self.bf16)

    def _refine(self, tokens: Tensor, layer: int) -> Tensor:
        depth_BMD = None
        if self.depth:
            blocks = len(self._depth_BMD)
            spread = layer * blocks // len(self.encoder.blocks)
            depth_BMD = self._depth_BMD[spread if self.depth.spread else min(layer, blocks - 1)]
        tokens, auxiliary = self._adapt(tokens, layer, depth_BMD)
        if auxiliary is not None:
            # by layer, because activation checkpointing runs a block twice
            self._auxiliary[layer] = auxiliary
        return tokens

    def _depth_tokens(self, x_BCHW: Tensor) -> list[Tensor]:
        """Patch tokens [B, N, width] of every depth block, on the backbone's grid."""
        if self.depth is None:
            return []
        grid = [side // self.encoder.patch_size for side in x_BCHW.shape[-2:]]
        with torch.no_grad():
            maps = self.depth.encoder(x_BCHW[:, self.rgb], every_block=True)
            if list(maps[0].shape[-2:]) != grid:
                maps = [nn.functional.interpolate(m, size=grid, mode="bilinear", align_corners=False) for m in maps]
            if self.depth.shuffled:
                maps = [m.roll(max(1, len(m) // 2), dims=0).flip(-2, -1) for m in maps]
            if self.depth.noise:
                maps = [m + self.depth.noise * m.std((1, 2, 3), keepdim=True) * torch.randn_like(m) for m in maps]
            return [m.flatten(2).mT for m in maps]

    def features(self, x_BCHW: Tensor, every_block: bool = False) -> list[Tensor]:
        """Maps [B, D, h, w] of the feature blocks (or every block) on the token grid, with the method at work."""
        with self._precision(x_BCHW):
            self._depth_BMD = self._depth_tokens(x_BCHW)
            height, width = x_BCHW.shape[-2:]
            self.method.grid = (height // self.encoder.patch_size, width // self.encoder.patch_size)
            found: list[Tensor] = self.encoder(x_BCHW, every_block)
            return found

    def forward(self, x_BCHW: Tensor) -> tuple[list[Tensor], Tensor]:
        """Normalised images [B, bands, H, W] -> four maps on `factors` times the token grid, auxiliary loss."""
        features, auxiliary = self._adapted(x_BCHW)
        return self._pyramid(features), auxiliary

    def _pyramid(self, features: list[Tensor]) -> list[Tensor]:
        maps = [resized(feature, factor) for feature, factor in zip(features, self.factors, strict=True)]
        return self.method.pyramid(maps)

    def _adapted(self, x_BCHW: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps of the feature blocks on the token grid, auxiliary loss."""
        self._auxiliary = {}
        features = self.features(x_BCHW)
        auxiliary = torch.stack(list(self._auxiliary.values())).mean() if self._auxiliary else x_BCHW.new_zeros(())
        # the depth tokens stay until the next pass: activation checkpointing runs the blocks again in the backward one
        self._auxiliary = {}
        return features, auxiliary

    def _predictions(self, x_BCHW: Tensor) -> tuple[Predictions, Tensor]:
        """What the head makes of images, auxiliary loss; maps that no method changes are resized in the head."""
        with self._precision(x_BCHW):
            features, auxiliary = self._adapted(x_BCHW)
            if self.method.overrides("pyramid"):
                return self.head(self._pyramid(features), self._queries()), auxiliary
            return self.head(features, self._queries(), self.factors), auxiliary

    def losses(self, x_BCHW: Tensor, label_BHW: Tensor) -> Losses:
        """Training losses; labels [B, H, W] hold class indices or `IGNORE`."""
        predictions, auxiliary = self._predictions(x_BCHW)
        return Losses(task=self.head.loss(predictions, label_BHW), auxiliary=auxiliary)

    @torch.no_grad()
    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Class indices [B, H, W]; any image size (padded right and bottom to whole patches, then cut back)."""
        height, width = x_BCHW.shape[-2:]
        multiple = 2 * self.encoder.patch_size
        padded = nn.functional.pad(x_BCHW, (0, -width % multiple, 0, -height % multiple))
        predictions, _ = self._predictions(padded)
        scores = self.head.semantic(predictions, (padded.shape[-2], padded.shape[-1]))
        if not torch.isfinite(scores).all():
            raise FloatingPointError(
                "the scores are NaN or infinite in evaluation: lower the learning rate, or mend the method"
            )
        return scores[..., :height, :width].argmax(1)

    def trained_state(self) -> dict[str, Tensor]:
        """What training made, by name: every trainable tensor and the buffers of method and head; no frozen weight."""
        return {name: tensor.detach() for name, tensor in self._trained()}

    @torch.no_grad()
    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `trained_state` gave.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs.
        """
        own = dict(self._trained())
        wrong = sorted(own.keys() ^ state.keys())
        if wrong:
            raise ValueError(f"{wrong[0]} is {'missing' if wrong[0] in own else 'unknown'}: options or versions differ")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise ValueError(f"{name} has shape {tuple(state[name].shape)} instead of {tuple(tensor.shape)}")
            tensor.copy_(state[name])

    def _trained(self) -> Iterator[tuple[str, Tensor]]:
        frozen = {id(module) for encoder in self._encoders() for module in encoder.own_modules}
        for prefix, module in self.named_modules():
            for name, buffer in module.named_buffers(prefix, recurse=False):
                if id(module) not in frozen and name.rpartition(".")[2] not in module._non_persistent_buffers_set:
                    yield name, buffer
        yield from ((name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad)

    def _queries(self) -> Queries | None:
        return self.method.queries() if self.head.linked else None

    def train(self, mode: bool = True) -> Segmentor:
        """Frozen modules stay in evaluation mode; what a method put into the encoder follows `mode`."""
        super().train(mode)
        for frozen in self._encoders():
            for module in frozen.own_modules:
                module.training = False
        return self


def build_segmentor(trial: Trial, *, random_weights: bool = False) -> Segmentor:
    """Build a trial's model: encoders, then the method from the stream `adapter`, then the head from the stream `head`.

    Args:
        trial: the trial.
        random_weights: draw both encoders at random, to rehearse a step without published weights; no trial does.

    Raises:
        ValueError: weights are missing or do not fit.
    """
    protocol, size = trial.protocol, trial.scale.build
    torch.manual_seed(stream_seed(trial.seed, "encoder"))
    init, depth_init = ("random", "random") if random_weights else (protocol.encoder_init, "pretrained")
    encoder = build_encoder(trial.backbone, size, trial.task.bands, protocol.band_expansion, init)
    depth = _depth_input(trial, depth_init)
    linked = protocol.queries == "linked"
    sizes = trial.scale.head.serving(trial.options)
    spec = encoder_spec(encoder, protocol.crop, sizes, linked, depth.encoder if depth else None)
    torch.manual_seed(stream_seed(trial.seed, "adapter"))
    method: Method = load_class(trial.method.target, trial.method.source_sha256)(spec, trial.options)
    original = tuple(encoder.model.parameters())
    method.install(encoder.model)
    if any(parameter.requires_grad for parameter in original) and not method.trains_backbone:
        raise ValueError(f"{trial.method.name}.install thawed the backbone: only trains_backbone methods may")
    queries = method.queries() if linked else None
    torch.manual_seed(stream_seed(trial.seed, "head"))
    head = Mask2FormerHead(encoder.width, len(trial.data.classes), sizes, queries)
    factors = PYRAMID if protocol.pyramid == "bilinear" else (1, 1, 1, 1)
    return Segmentor(encoder, depth, method, head, trial.task.bands, factors, bf16=protocol.precision == "bf16")


def _depth_input(trial: Trial, init: str) -> DepthInput | None:
    protocol, released = trial.protocol, trial.task.released
    if trial.depth_encoder is None:
        return None
    return DepthInput(
        encoder=build_encoder(trial.depth_encoder, trial.scale.build, RGB, "nearest", init),
        shuffled=protocol.depth == "shuffled",
        noise=protocol.depth_noise,
        spread=protocol.depth_pairing == "spread",
        rgb=released.depth_rgb if released and protocol.depth_rgb == "released" else None,
    )
