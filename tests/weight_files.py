"""Fabricated weight files in the hubs' formats and under their names, of narrow models that build in a moment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness import weight_sources
from harness.backbones import Encoder, build_encoder
from harness.dofa import build_dofa
from harness.weight_sources import Source
from harness.zoo import BACKBONES, DEPTH_ENCODERS, RGB, BackboneSpec

WIDTH, DEPTH, HEADS = 64, 4, 2
_NARROW: dict[str, Any] = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
_SAM = {"global_attn_indexes": (1, 3), "neck_chans": 8}

TIMM = tuple(name for name in BACKBONES if name != "dofa")
"""Backbones whose published files have timm's own names."""


def narrow(name: str, **options: Any) -> BackboneSpec:
    """The published build of a backbone or depth encoder, but for width and depth.

    Args:
        name: a key of `BACKBONES` or `DEPTH_ENCODERS`.
        options: further ones of the build.
    """
    spec = {**BACKBONES, **DEPTH_ENCODERS}[name]
    paper = spec.builds["paper"]
    sizes = _NARROW | (_SAM if name == "sam" else {})
    small = replace(paper, options={**paper.options, **sizes, **options}, feature_blocks=(0, 1, 2, 3))
    return replace(spec, builds={**spec.builds, "paper": small})


def loaded(spec: BackboneSpec) -> Encoder:
    """The encoder with the published weights that lie in the weights folder."""
    return build_encoder(spec, "paper", RGB, "nearest", "pretrained")


def source(name: str, number: int = 0) -> Source:
    """A published file of a backbone or depth encoder; 0 is the one to fetch."""
    return {**BACKBONES, **DEPTH_ENCODERS}[name].builds["paper"].sources[number]


def hub_model(name: str) -> nn.Module:
    """What timm publishes for a backbone, narrow: the published patch, image size and classifier."""
    hub = BACKBONES[name].builds["paper"].weights.removeprefix("hub:")
    options = _NARROW | (_SAM if name == "sam" else {})
    return drawn(timm.create_model(hub, pretrained=False, **options))


def drawn(model: nn.Module) -> nn.Module:
    """A model in which every tensor holds random numbers, also what starts at 0 or 1."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    return model.eval()


def dinov2_state(names: str = "timm") -> dict[str, Tensor]:
    """The state dict of the DINOv2 encoder, narrow, as timm or as its authors publish it."""
    state = dict(hub_model("dinov2").state_dict())
    return state if names == "timm" else {**state, "mask_token": torch.zeros(1, WIDTH)}


def put(folder: Path, published: Source, state: Mapping[str, Any], **around: Any) -> Path:
    """Write a file where a user would put it.

    Args:
        folder: the weights folder.
        published: which file.
        state: its tensors.
        around: what else a training framework's file holds; `state` then lies under `state_dict`.
    """
    path = folder / published.repository / published.file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata={"format": "pt"})
    else:
        torch.save({"state_dict": dict(state), **around} if around else dict(state), path)
    return path


@contextmanager
def any_digest(name: str) -> Iterator[None]:
    """Sources whose publisher names a digest, without it: no fabricated file has the published one."""
    key = BACKBONES[name].builds["paper"].weights.removeprefix("hub:")
    free = tuple(replace(each, sha256_begins="") for each in weight_sources.sources_of(key))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(weight_sources._KNOWN, key, free)
        yield


def dofa_state() -> dict[str, Tensor]:
    """As torchgeo publishes it: for 224 pixels, without the norm of pooled features."""
    model = drawn(build_dofa({"patch_size": 16, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}))
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fc_norm.")}


def same(model: nn.Module, state: dict[str, Tensor]) -> set[str]:
    """Names of the model's tensors that equal those of a state dict."""
    own = model.state_dict()
    return {name for name in own if name in state and torch.equal(own[name], state[name])}


def tamper(path: Path) -> None:
    """Change the last byte of a file, and leave its size and time of change as they were."""
    whole, stat = path.read_bytes(), path.stat()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
