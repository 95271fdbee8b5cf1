"""What timm says of one of its models: can it be a backbone, and how is it built? Imports torch.

`harness.timm_models` asks, in a process of its own where planning must stay free of torch.
"""

from __future__ import annotations

import difflib
import inspect
import json
import sys
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model, list_models, list_pretrained
from torch import nn

from harness.backbones import Encoder

PATCH = 16
"""Side of a patch in pixels, whatever the published one."""

_FEWEST_BLOCKS = 6
_SIZES = ((512, 512), (128, 256))
# what the code of a model that was not written for it raises
_MISFITS = (AttributeError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


def probe(name: str) -> dict[str, Any]:
    """The facts of a timm model as a backbone, plainly: what `timm_models.Facts` takes.

    Args:
        name: of the model, with or without the tag of its weights.

    Raises:
        ValueError: timm has no such model or no such weights, or the model does not fit, with the reason.
    """
    entry, _, tag = name.partition(".")
    if not is_model(entry):
        raise ValueError(f"timm {timm.__version__} has no model {entry!r}{_near(entry)}")
    full = _with_tag(entry, tag)
    config: Any = get_pretrained_cfg(full)
    try:
        options = _options(entry)
        depth = _examine(entry, options)
    except _MISFITS as error:
        told = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"timm's {entry} cannot be a backbone: {told}") from error
    classifier = [config.classifier] if isinstance(config.classifier, str) else list(config.classifier or ())
    return {
        "name": full,
        "depth": depth,
        "options": options,
        "repository": config.hf_hub_id,
        "licence": config.license or "see its page",
        "unused": [f"{layer}.{part}" for layer in classifier for part in ("weight", "bias")],
    }


def _near(entry: str) -> str:
    close = difflib.get_close_matches(entry, list_models(), n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(f'timm:{found}' for found in close)}?" if close else ""
    return f"{guess} (timm.list_models('*vit*') knows them all)"


def _with_tag(entry: str, tag: str) -> str:
    """Name and tag, timm's default one if none is given; both only of weights that lie on the hub."""
    known = [known for known in list_pretrained(f"{entry}.*") if get_pretrained_cfg(known).hf_hub_id]  # type: ignore[union-attr]
    if not known:
        raise ValueError(f"timm's {entry} has no published weights on the hub: take another model")
    wanted = tag or getattr(get_pretrained_cfg(entry), "tag", "")
    if f"{entry}.{wanted}" not in known:
        tags = ", ".join(full.partition(".")[2] for full in known)
        raise ValueError(f"timm's {entry} has no weights {wanted!r} on the hub (known: {tags})")
    return f"{entry}.{wanted}"


def _options(entry: str) -> dict[str, Any]:
    """What the entry point is called with: patches of 16 pixels, the published grid of positions fitted to each image.

    Raises:
        ValueError: the model is no plain ViT.
    """
    with torch.device("meta"):
        model: Any = timm.create_model(entry, num_classes=0)
    stem = getattr(model, "patch_embed", None)
    reasons = {
        "it is hierarchical": len({level["num_chs"] for level in getattr(model, "feature_info", ())}) > 1,
        "it has no list of blocks": not isinstance(getattr(model, "blocks", None), (nn.ModuleList, nn.Sequential)),
        "it has no forward_intermediates": not hasattr(model, "forward_intermediates"),
        "its patches are not made by one convolution over red, green and blue": not _is_plain(stem),
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(reason)
    options: dict[str, Any] = {}
    if model.patch_embed.patch_size != (PATCH, PATCH):
        rows, columns = (PATCH * side for side in model.patch_embed.grid_size)
        options |= {"img_size": rows if rows == columns else (rows, columns), "patch_size": PATCH}
    if "dynamic_img_size" in inspect.signature(type(model).__init__).parameters:
        options["dynamic_img_size"] = True
    return options


def _is_plain(stem: Any) -> bool:
    projection = getattr(stem, "proj", None)
    return isinstance(projection, nn.Conv2d) and projection.in_channels == 3 and hasattr(stem, "patch_size")


def _examine(entry: str, options: dict[str, Any]) -> int:
    """The number of blocks of a model that gives what is asked of an encoder, for images of any size.

    Raises:
        ValueError: it does not.
    """
    with torch.device("meta"):
        encoder = Encoder(timm.create_model(entry, num_classes=0, **options), ())
        depth = len(encoder.blocks)
        if depth < _FEWEST_BLOCKS:
            raise ValueError(f"it has {depth} blocks, and four feature blocks in even steps need {_FEWEST_BLOCKS}")
        block: Any = encoder.blocks[0]
        if not hasattr(block, "attn") or not hasattr(getattr(block, "mlp", None), "fc2"):
            raise ValueError("its blocks are not one attention and one MLP each")
        for height, width in _SIZES:
            try:
                maps = encoder(torch.zeros(1, 3, height, width), every_block=True)
            except (AssertionError, RuntimeError) as error:
                raise ValueError(f"it does not take images of any size ({error})") from error
            if {found.shape for found in maps} != {(1, encoder.width, height // PATCH, width // PATCH)}:
                raise ValueError("its blocks do not all give a map of one token per patch")
    return depth


if __name__ == "__main__":
    try:
        answer: dict[str, Any] = {"facts": probe(sys.argv[1])}
    except ValueError as error:
        answer = {"refused": str(error)}
    json.dump(answer, sys.stdout)
