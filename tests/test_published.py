"""Published parameter counts as facts of the options: two decimals of our own count, or a known difference."""

from __future__ import annotations

from typing import Any

import pytest

from harness.lookup import find_method, load_class
from methods import OPTIONS
from methods.base import EncoderSpec
from tests.adapters import SAM_H, VIT_L

BACKBONES = {"clip", "dinov2", "dinov3", "dofa", "eva02", "sam"}


def test_every_method_of_the_published_tables_says_its_count() -> None:
    names = {name for name in OPTIONS if not name.startswith("peft:")}
    published = {name: find_method(name).options_class.published_m for name in names}
    assert {name for name, counts in published.items() if counts} == names - {"depth_add", "full"}
    assert all(set(counts) <= BACKBONES for counts in published.values())


@pytest.mark.parametrize(
    ("name", "options", "spec", "backbone", "ours"),
    [
        ("rein", {}, VIT_L, "dinov3", None),
        ("rein", {}, SAM_H, "sam", None),
        ("depthforge", {}, VIT_L, "dofa", None),
        ("depthforge", {}, SAM_H, "sam", None),
        ("spectralmoe", {}, VIT_L, "clip", None),
        ("spectralmoe", {}, SAM_H, "sam", 10.34),
        ("set", {}, VIT_L, "dinov2", 5.52),
        ("set", {}, SAM_H, "sam", 8.50),
        ("set", {"preset": "published_count"}, VIT_L, "eva02", None),
        ("set", {"preset": "published_count"}, SAM_H, "sam", None),
        ("fada", {}, VIT_L, "dinov3", 5.60),
        ("fada", {}, SAM_H, "sam", 8.60),
        ("earth_adapter", {}, VIT_L, "dinov2", 9.59),
    ],
)
def test_own_count_beside_the_published_one(
    name: str, options: dict[str, Any], spec: EncoderSpec, backbone: str, ours: float | None
) -> None:
    cls = load_class(find_method(name).target)
    chosen = cls.Options.make(options)
    counted = round(cls.expected_count(spec, chosen) / 1e6, 2)
    assert counted == (ours or chosen.published_m[backbone])
    assert abs(counted - chosen.published_m[backbone]) < 0.05 or name in ("set", "fada", "spectralmoe")
