"""From names to backbones: ours, or any ViT of timm. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable

from harness.lookup import find
from harness.timm_models import PREFIX as TIMM
from harness.timm_models import timm_backbone
from harness.zoo import BACKBONE_NAMES, BACKBONES, BackboneSpec


def find_backbone(name: str, build: str = "") -> BackboneSpec:
    """A backbone by its name at either size, or any ViT of timm as `timm:NAME` or `timm:NAME.TAG`.

    Args:
        name: in the user's words.
        build: the size of encoders that it must have, `mini` or `paper`; empty for any.

    Raises:
        ValueError: unknown (the nearest known name is suggested), unfit, or not to be had at that size.
    """
    if not name.startswith(TIMM):
        return find("backbone", name, BACKBONE_NAMES, also=f"{TIMM}NAME")
    spec = timm_backbone(name)
    if build and build not in spec.builds:
        raise ValueError(
            f"backbone {name} is for --scale paper: it has its published size alone; smaller ones at scale {build} are "
            f"{', '.join(BACKBONES)}"
        )
    return spec


def find_backbones(names: Iterable[str], build: str = "") -> dict[str, BackboneSpec]:
    """Several backbones by name; `ValueError` as by `find_backbone`."""
    return {spec.name: spec for spec in (find_backbone(name, build) for name in names)}
