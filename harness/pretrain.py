"""Makes the shipped mini weights: encoders trained on synthetic scenes of many random domains, without labels.

A backbone sees the bands of its kind of a scene (three visible ones; DOFA, at every step, others of four), partly
masked (SimMIM: Xie et al., CVPR 2022), and learns to draw the same place in four bands on a clear summer day. That
canonical view is an output of the simulator which no real sensor gives: it stands in for what a foundation model learns
from a thousand million images. The depth encoder learns height from the three visible bands, as a monocular depth
network does; only its encoder is kept. A linear probe on scenes of other random domains, the one place where labels are
read, scores both beside a random encoder.

    python run.py pretrain dinov3                    # harness/weights/dinov3_mini.safetensors
    python run.py pretrain depth                     # harness/weights/depth_mini.safetensors
    python run.py pretrain dinov3 --pretext pixels --out elsewhere    # masked pixels alone, no simulator output
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.catalogue import FBP_CS
from benchmarks.synthetic.scenes import CLASSES, pretraining_scenes
from benchmarks.tasks import Band
from harness.backbones import Encoder, build_encoder
from harness.bands import nearest_bands
from harness.lookup import find
from harness.metrics import areas, confusion, scores
from harness.optim import decay
from harness.trial import stream_seed
from harness.zoo import BACKBONES, DEPTH_ENCODER, BackboneSpec

log = logging.getLogger(__name__)

_SCENE_PX, _PX, _BATCH = 128, 64, 16
_PROBE_STEPS, _PROBE_TRAIN, _PROBE_TEST = 300, 256, 256
_MASKED = 0.4
PRETEXTS = ("canonical", "pixels")
_HEIGHT_M = 8.0  # metres per unit of the depth target


@dataclass(frozen=True)
class Scenes:
    """A stack of scenes.

    Args:
        image: the encoder's bands of random domains, normalised by their own statistics, [n, bands, px, px].
        canonical: bands NIR, R, G, B of the canonical view, normalised likewise, [n, 4, px, px].
        height: metres, [n, px, px].
        label: class indices [n, px, px], for the probe alone.
    """

    image: Tensor
    canonical: Tensor
    height: Tensor
    label: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All of it, in order."""
        return (self.image, self.canonical, self.height, self.label)


def pretrain(what: str, *, pretext: str, out: Path, steps: int, scenes: int, seed: int) -> dict[str, float]:
    """Train an encoder, write its weights in half precision, and return probe scores (mIoU in percent).

    Args:
        what: a backbone's name, or `depth`.
        pretext: what a backbone learns, `canonical` or `pixels`; the depth encoder learns height.
        out: folder for `NAME_mini.safetensors`.
        steps: optimiser steps of 16 crops.
        scenes: how many scenes to train on.
        seed: of scenes, initialisation and masks.
    """
    torch.set_num_threads(1)
    find("pretext", pretext, dict.fromkeys(PRETEXTS, ""))
    spec = find("encoder", what, {**BACKBONES, "depth": DEPTH_ENCODER})
    places = render(scenes, _SCENE_PX, seed, spec.bands)
    torch.manual_seed(stream_seed(seed, "encoder"))
    encoder = _fresh(spec)
    objective: nn.Module = _Height(encoder) if what == "depth" else _Masked(encoder, pretext, spec)
    _optimise(objective, _crops(places, seed), steps)
    build = spec.builds["mini"]
    state = {name: tensor.half().contiguous() for name, tensor in encoder.model.state_dict().items()}
    found = {"probe_miou": probe(encoder, seed, spec.bands), "probe_miou_random": probe(_fresh(spec), seed, spec.bands)}
    out.mkdir(parents=True, exist_ok=True)
    told = "" if what == "depth" else f" --pretext {pretext}"
    notes = {
        "command": f"python run.py pretrain {what}{told} --steps {steps} --scenes {scenes} --seed {seed}",
        **found,
    }
    # one entry: safetensors writes several in random order, and equal weights must be equal bytes
    save_file(state, out / build.weights, metadata={"notes": json.dumps(notes)})
    log.warning("wrote %s: %s", out / build.weights, json.dumps(notes))
    return found


def render(count: int, px: int, seed: int, bands: Sequence[Band]) -> Scenes:
    """Scenes of random domains in the bands asked for."""
    chosen = nearest_bands(bands, FBP_CS.bands)
    rendered = list(track(pretraining_scenes(count, px, seed), "rendering scenes", total=count, transient=True))
    return Scenes(
        image=_normalised(np.stack([scene.image[..., chosen] for scene in rendered])),
        canonical=_normalised(np.stack([scene.canonical for scene in rendered])),
        height=torch.from_numpy(np.stack([scene.height_m for scene in rendered])).float(),
        label=torch.from_numpy(np.stack([scene.label for scene in rendered])).long(),
    )


def _normalised(image: npt.NDArray[np.uint8]) -> Tensor:
    stack = torch.from_numpy(image).permute(0, 3, 1, 2).float()
    return (stack - stack.mean((0, 2, 3), keepdim=True)) / stack.std((0, 2, 3), keepdim=True)


def probe(encoder: Encoder, seed: int, bands: Sequence[Band]) -> float:
    """mIoU of a linear layer on the four feature maps, trained and tested on scenes of unseen random domains."""
    encoder.eval()
    train, test = (render(n, _PX, seed + i, bands) for i, n in ((1, _PROBE_TRAIN), (2, _PROBE_TEST)))
    patch, classes = encoder.patch_size, len(CLASSES)
    features = [torch.cat([_features(encoder, chunk) for chunk in part.image.split(64)]) for part in (train, test)]
    mean, std = features[0].mean((0, 2, 3), keepdim=True), features[0].std((0, 2, 3), keepdim=True)
    features = [(f - mean) / std for f in features]
    torch.manual_seed(stream_seed(seed, "probe"))
    layer = nn.Conv2d(features[0].shape[1], patch * patch * classes, 1)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-3, weight_decay=0.05)
    for step in range(_PROBE_STEPS):
        rows = torch.randint(len(train.label), (32,))
        loss = nn.functional.cross_entropy(
            nn.functional.pixel_shuffle(layer(features[0][rows]), patch), train.label[rows]
        )
        optimiser.param_groups[0]["lr"] = 1e-3 * decay(step, _PROBE_STEPS, 0.9, 10)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        predicted = nn.functional.pixel_shuffle(layer(features[1]), patch).argmax(1)
    return scores(areas(confusion(predicted.numpy(), test.label.numpy(), classes))).miou


@torch.no_grad()
def _features(encoder: Encoder, image: Tensor) -> Tensor:
    return torch.cat(encoder(image), dim=1)


def _fresh(spec: BackboneSpec) -> Encoder:
    encoder = build_encoder(spec, "mini", spec.bands, "nearest", "random")
    encoder.requires_grad_(True)
    return encoder


class _Masked(nn.Module):
    """Masked patches, L1: four bands of the canonical view everywhere, or the image itself where it is masked."""

    def __init__(self, encoder: Encoder, pretext: str, spec: BackboneSpec) -> None:
        super().__init__()
        self.encoder = encoder
        self.spec = spec
        self.canonical = pretext == "canonical"
        bands = len(FBP_CS.bands if self.canonical else spec.bands)
        self.token = nn.Parameter(torch.zeros(encoder.width))
        self.decoder = nn.Conv2d(encoder.width, bands * encoder.patch_size**2, 1)

    def forward(self, crop: Scenes) -> Tensor:
        patch = self.encoder.patch_size
        side = crop.image.shape[-1] // patch
        masked_Bhw = torch.rand(len(crop.image), side, side) < _MASKED

        def hide(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Any) -> Any:
            # DOFA's embedding returns rows of tokens and the wavelengths, the others' a grid of tokens
            tokens, *rest = output if isinstance(output, tuple) else (output,)
            masked = masked_Bhw.flatten(1) if tokens.ndim == 3 else masked_Bhw
            hidden = torch.where(masked[..., None], self.token, tokens)
            return (hidden, *rest) if rest else hidden

        patch_embed = cast(nn.Module, self.encoder.model.patch_embed)
        handle = patch_embed.register_forward_hook(hide)
        features = self._features(crop.image)
        handle.remove()
        drawn = nn.functional.pixel_shuffle(self.decoder(features), patch)
        if self.canonical:
            return (drawn - crop.canonical).abs().mean()
        hidden = masked_Bhw.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None].expand_as(drawn)
        return (drawn - crop.image)[hidden].abs().mean()

    def _features(self, image: Tensor) -> Tensor:
        """The last map; an encoder that is told wavelengths sees some of the bands, others at every step."""
        encoder: Any = self.encoder
        if not self.spec.by_wavelength:
            return cast(Tensor, encoder(image)[-1])
        every = encoder.wavelengths
        chosen = torch.randperm(len(every))[: int(torch.randint(1, len(every) + 1, ()))]
        encoder.wavelengths = tuple(every[i] for i in chosen)
        features = encoder(image[:, chosen])[-1]
        encoder.wavelengths = every
        return cast(Tensor, features)


class _Height(nn.Module):
    """Height in units of 8 m from the last block; L1."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = nn.Conv2d(encoder.width, encoder.patch_size**2, 1)

    def forward(self, crop: Scenes) -> Tensor:
        drawn = nn.functional.pixel_shuffle(self.decoder(self.encoder(crop.image)[-1]), self.encoder.patch_size)
        return (drawn[:, 0] - crop.height / _HEIGHT_M).abs().mean()


def _crops(scenes: Scenes, seed: int) -> Iterator[Scenes]:
    """Endless batches of random crops, flipped and transposed."""
    generator = np.random.default_rng(stream_seed(seed, "crops"))
    while True:
        crops = []
        for _ in range(_BATCH):
            i = generator.integers(len(scenes.image))
            y, x = generator.integers(_SCENE_PX - _PX + 1, size=2)
            flips = [axis for axis in (-1, -2) if generator.integers(2)]
            turn = bool(generator.integers(2))
            parts = [part[i][..., y : y + _PX, x : x + _PX].flip(flips) for part in scenes.parts]
            crops.append([part.mT if turn else part for part in parts])
        yield Scenes(*map(torch.stack, zip(*crops, strict=True)))


def _optimise(objective: nn.Module, crops: Iterator[Scenes], steps: int) -> None:
    parameters = list(objective.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95))
    objective.train()
    recent = 0.0
    for step in track(range(1, steps + 1), "pretraining", transient=True):
        loss = objective(next(crops))
        optimiser.param_groups[0]["lr"] = 1e-3 * decay(step - 1, steps, 0.9, 200)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        recent += float(loss.detach())
        if step % 500 == 0:
            log.warning("step %d of %d: loss %.4f", step, steps, recent / 500)
            recent = 0.0
