"""Protocols and scales: every size and every number of the recipe. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from benchmarks.tasks import AS_IS, SceneSizes, Shift, Task
from methods.options import Options, checked

PRECISIONS = dict.fromkeys(("fp32", "bf16"))
"""What `protocol.precision` may be."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The training and evaluation recipe, the same for all methods of a scale.

    Args:
        steps: optimiser steps; 0 means `epochs` passes over the source training tiles.
        epochs: passes, where `steps` is 0.
        batch_size: tiles per step.
        lr: learning rate of head and adapter (AdamW).
        weight_decay: AdamW's, except for norms, query and level embeddings and what a method exempts.
        power: of the polynomial decay to zero.
        warmup_steps: linear warm-up before it.
        clip_norm: gradient norm limit; 0 for none.
        evaluations: number of evaluation points, the last one after the last step.
        crop: side of a training crop in pixels.
        resize: shortest edges drawn uniformly before the crop, in fractions of the tile's; empty for no resize.
        cat_max_ratio: a crop is redrawn while one class exceeds this share.
        flip: horizontal flip with probability 0.5.
        photometric: brightness, contrast, saturation and hue jitter of the visible bands; `released` as the released
            code does it, with its defect on four bands and without any where it has none.
        max_tiles: at most so many tiles per split and domain, spread evenly; 0 for all.
        queries: linked queries from the method, or plain learned ones.
        band_expansion: how three pretrained bands become the task's bands (harness/bands.py).
        encoder_init: shipped or published weights, or random ones as a control.
        depth: the depth encoder's features, or as a control another image's (half a batch away, turned by 180 degrees).
        depth_noise: noise on the depth features, relative to their spread.
        depth_pairing: the depth encoder's blocks spread evenly over the backbone's, or block i to block i, the last
            one for all beyond.
        pyramid: the head's four maps resized to strides 4, 8, 16, 32, or all on the token grid, as the released
            SpectralMoE does on DOFA.
        depth_rgb: the depth encoder is fed the bands nearest to R, G, B, or those that the released code takes.
        depth_model: at scale paper, the network whose encoder tells depth: PromptDA's, as published, or that of Depth
            Anything V2.
        normalisation: by statistics of the source, by the constants of the released configurations, or each image by
            its own valid pixels.
        channel_order: as the task has its bands, or tasks in three bands reversed, with statistics that are not, as the
            released configurations load them.
        precision: of the forward pass; `bf16` by autocast with the frozen weights held in it, the loss in fp32.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    steps: int
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    power: float
    warmup_steps: int
    clip_norm: float
    evaluations: int
    crop: int
    resize: tuple[float, ...]
    cat_max_ratio: float
    flip: bool
    photometric: bool | Literal["released"]
    max_tiles: int
    queries: Literal["linked", "plain"] = "linked"
    band_expansion: Literal["nearest", "mean", "released", "linear", "timm"] = "nearest"
    encoder_init: Literal["pretrained", "random"] = "pretrained"
    depth: Literal["true", "shuffled"] = "true"
    depth_noise: float = 0.0
    depth_pairing: Literal["spread", "same"] = "spread"
    pyramid: Literal["bilinear", "none"] = "bilinear"
    depth_rgb: Literal["wavelength", "released"] = "wavelength"
    normalisation: Literal["source_stats", "released", "per_image"] = "source_stats"
    channel_order: Literal["task", "bgr"] = "task"
    depth_model: Literal["promptda", "depth_anything"] = "promptda"
    precision: Literal["fp32", "bf16"] = "fp32"

    # Studied within one table; every other field makes a recipe, and recipes never share a table.
    # Rises when the code of the recipe changes numbers under unchanged fields. 2: head and optimiser round otherwise.
    VERSION: ClassVar[int] = 2
    CONTROLS: ClassVar[tuple[str, ...]] = (
        *("queries", "band_expansion", "encoder_init"),
        *("depth", "depth_noise", "depth_pairing", "pyramid", "depth_rgb", "depth_model"),
    )
    # Came after records were made: at their defaults no part of the key, so that those records stay what they are.
    LATER: ClassVar[tuple[str, ...]] = ("depth_rgb", "normalisation", "channel_order", "depth_model", "precision")

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if (self.steps > 0) == (self.epochs > 0):
            raise ValueError(f"protocol.steps={self.steps} with protocol.epochs={self.epochs}: set exactly one above 0")
        for name in ("batch_size", "evaluations", "crop"):
            if getattr(self, name) < 1:
                raise ValueError(f"protocol.{name}={getattr(self, name)}: must be at least 1")
        for name in ("lr", "weight_decay", "power", "clip_norm", "depth_noise", "max_tiles", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"protocol.{name}={getattr(self, name)}: must not be negative")
        if self.crop % 32:
            raise ValueError(f"protocol.crop={self.crop}: must be a multiple of 32, whole patches at half resolution")
        if not 0 < self.cat_max_ratio <= 1:
            raise ValueError(f"protocol.cat_max_ratio={self.cat_max_ratio}: must be above 0 and at most 1")
        if not all(0 < fraction <= 4 for fraction in self.resize):
            raise ValueError(f"protocol.resize={self.resize}: fractions of the tile must be above 0 and at most 4")
        if 0 < self.steps < self.evaluations:
            raise ValueError(
                f"protocol.steps={self.steps} is below protocol.evaluations={self.evaluations}: lower evaluations too"
            )

    def inputs(self) -> dict[str, Any]:
        """Its fields as they stand in a record and its key: those of `LATER` only where they are not the default."""
        default = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if name not in self.LATER or value != default[name]}

    def change(self, given: Mapping[str, Any]) -> Protocol:
        """This protocol with some fields changed; values may be strings, as typed.

        Raises:
            ValueError: an unknown field (the nearest is suggested) or a value that does not fit.
        """
        changed = {**asdict(self), **given}
        for length, other in (("steps", "epochs"), ("epochs", "steps")):
            if length in given and other not in given:
                changed[other] = 0
        if isinstance(changed["resize"], str):
            changed["resize"] = changed["resize"].split(",") if changed["resize"] else ()
        return checked(Protocol, "protocol", changed)


@dataclass(frozen=True, kw_only=True)
class HeadSizes:
    """Sizes of the Mask2Former head; the names are those of its paper."""

    width: int
    pixel_layers: int
    pixel_feedforward: int
    decoder_layers: int
    feedforward: int
    queries: int
    points: int
    common_stride: int = 4

    def serving(self, options: Options) -> HeadSizes:
        """These sizes with as many queries as a method's options ask for."""
        return self if options.head_queries is None else replace(self, queries=options.head_queries)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A scale is data: the sizes of everything and the default protocol.

    Args:
        build: which build of each backbone it takes (`mini` or `paper`).
        scenes: sizes of the embedded scenes, or None where only files are right.
        loader_workers: processes that read tiles ahead; changes no number.
        gpus_per_trial: what a trial needs, unless the user says otherwise.
        fixed_length: a suite's own protocol does not apply.
        own_augmentation: tasks bring their published augmentation.
    """

    name: str
    title: str
    build: str
    protocol: Protocol
    head: HeadSizes
    scenes: SceneSizes | None
    loader_workers: int
    gpus_per_trial: float
    fixed_length: bool = False
    own_augmentation: bool = False

    def protocol_of(self, task: Task) -> Protocol:
        """The default protocol of a task."""
        own = task.augmentation if self.own_augmentation else None
        return replace(self.protocol, resize=own.resize, photometric=own.photometric) if own else self.protocol

    def on(self, *, gpu: bool) -> Scale:
        """This scale where trials have a GPU or none: bf16 is slow on a CPU."""
        return self if gpu else replace(self, protocol=replace(self.protocol, precision="fp32"))

    def shifted(self, shift: Shift, data_root: Path | None) -> Scale:
        """This scale with the targets of its embedded scenes so far from the source.

        Raises:
            ValueError: a shift is asked for where there are no embedded scenes.
        """
        if shift == AS_IS:
            return self
        if data_root or self.scenes is None:
            remedy = "--data-root" if data_root else f"--scale {self.name}"
            raise ValueError(f"--severity and --ingredients shift synthetic scenes: drop them or {remedy}")
        return replace(self, scenes=replace(self.scenes, shift=shift))


_MINI = Scale(
    name="mini",
    title="mini",
    build="mini",
    protocol=Protocol(
        steps=200,
        epochs=0,
        batch_size=8,
        lr=3e-3,
        weight_decay=0.01,
        power=0.9,
        warmup_steps=5,
        clip_norm=1.0,
        evaluations=4,
        crop=64,
        resize=(1.0, 1.125, 1.25),
        cat_max_ratio=0.75,
        flip=True,
        photometric=False,
        max_tiles=512,
    ),
    head=HeadSizes(
        width=64,
        pixel_layers=1,
        pixel_feedforward=128,
        decoder_layers=3,
        feedforward=128,
        queries=16,
        points=256,
    ),
    scenes=SceneSizes(source_scenes=128, target_scenes=16, scene_px=128, tile_px=64),
    loader_workers=0,
    gpus_per_trial=0,
)

_TEST = replace(
    _MINI,
    name="test",
    title="test",
    fixed_length=True,
    protocol=replace(_MINI.protocol, steps=4, evaluations=2, batch_size=2, max_tiles=8),
    scenes=SceneSizes(source_scenes=4, target_scenes=2, scene_px=128, tile_px=64),
)

_PAPER = Scale(
    name="paper",
    title="paper",
    build="paper",
    protocol=Protocol(
        steps=0,
        epochs=20,
        batch_size=8,
        lr=1e-4,
        weight_decay=0.05,
        power=0.9,
        warmup_steps=0,
        clip_norm=0.0,
        evaluations=20,
        crop=512,
        resize=(0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
        cat_max_ratio=0.75,
        flip=True,
        photometric=True,
        max_tiles=0,
        precision="bf16",
    ),
    head=HeadSizes(
        width=256,
        pixel_layers=6,
        pixel_feedforward=1024,
        decoder_layers=10,
        feedforward=2048,
        queries=100,
        points=12544,
    ),
    scenes=None,
    loader_workers=4,
    gpus_per_trial=1,
    own_augmentation=True,
)

SCALES: dict[str, Scale] = {scale.name: scale for scale in (_MINI, _PAPER, _TEST)}
"""`test` is hidden: a few steps that serve the tests."""
