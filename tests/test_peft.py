"""Tuners of `peft`: the table against the library, counts, and every tuner on every backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft.utils.peft_types import PeftType
from torch import nn

from harness.lookup import find_method, load_class
from harness.plan import Request, make_plan
from methods import METHODS, OPTIONS, REFUSED
from methods.options.peft import CLASSES, TUNERS
from tests.encoders import (
    ENCODERS,
    assert_only_trainable_get_gradients,
    assert_samples_do_not_mix,
    draw,
    draw_biases,
    installed,
    large,
    maps,
    shake,
    tiny,
)
from tests.models import BANDS, make_trial, relative, small_vit

TESTED = [name for name, tuner in TUNERS.items() if tuner.tested]
UNTESTED = [name for name, tuner in TUNERS.items() if not tuner.tested]
Parameters = dict[str, nn.Parameter]


def count(parameters: Parameters) -> int:
    return sum(p.numel() for p in parameters.values())


def declared(name: str, method: Any, options: dict[str, Any]) -> int:
    return int(type(method).expected_count(method.spec, CLASSES[name].make(options)))


# --- the table


def test_the_table_covers_what_peft_has() -> None:
    ours = {name.removeprefix("peft:") for name in [*METHODS, *REFUSED] if name.startswith("peft:")}
    assert {kind.value.lower() for kind in PeftType} <= ours
    assert {name for name in METHODS if name.startswith("peft:")} == {f"peft:{name}" for name in TUNERS}
    assert not set(METHODS) & set(REFUSED)
    assert set(METHODS) == set(OPTIONS)


@pytest.mark.parametrize("name", TUNERS)
def test_names_lead_to_classes(name: str) -> None:
    ref = find_method(f"peft:{name}")
    assert ref.options_class is CLASSES[name] is load_class(ref.target).Options
    options = ref.options_class.make({})
    assert (ref.name, options.control, options.links_queries) == (f"peft:{name}", True, False)
    assert options.port == ("from_paper" if name in TESTED else "inferred")
    assert options.title.endswith("(untested)") == (name in UNTESTED)


def test_they_take_part_only_where_named() -> None:
    everything = make_plan(Request(suite="all", scale="test", seeds=1), None)
    assert not any("peft:" in planned.trial.method.name for planned in everything.trials)
    trial = make_trial("peft:dora", "peft:dora.r=4", "peft:dora.lora_dropout=0.1", "peft:dora.target=qv")
    assert (trial.options.r, trial.options.lora_dropout, trial.options.target) == (4, 0.1, "qv")
    assert trial.key != make_trial("peft:dora").key


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("dora", {"r": "0"}, "peft:dora.r=0: must be at least 1"),
        ("dora", {"r": "many"}, "peft:dora.r=many"),
        ("dora", {"rank": 4}, "unknown option peft:dora.rank"),
        ("dora", {"lora_dropout": 1.0}, "peft:dora.lora_dropout"),
        ("dora", {"target": "mlp"}, "peft:dora.target=mlp"),
        ("ln_tuning", {"target": "qv"}, "unknown option peft:ln_tuning.target"),
        ("oft", {"oft_block_size": 1}, "peft:oft.oft_block_size=1"),
        ("hra", {"r": 3}, "peft:hra.r=3: must be even"),
        ("adalora", {"target_r": 12}, "peft:adalora.target_r=12"),
        ("adalora", {"total_step": 60}, "peft:adalora.total_step=60"),
        ("adalora", {"beta1": 1.0}, "peft:adalora.beta1=1.0"),
    ],
)
def test_wrong_options_are_refused(name: str, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CLASSES[name].make(wrong)


@pytest.mark.parametrize(("name", "option"), [("oft", "oft_block_size"), ("boft", "boft_block_size"), ("miss", "r")])
def test_blocks_must_divide_the_width(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=rf"peft:{name}.{option}=7 does not divide the backbone's width 96"):
        installed(f"peft:{name}", tiny("dinov3"), {option: 7})


def test_an_older_peft_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("peft.HiraConfig")
    with pytest.raises(ValueError, match="peft:hira is unknown to peft"):
        installed("peft:hira", tiny("dinov3"))


# --- counts


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dora", {}, 860_160),
        ("rslora", {}, 786_432),
        ("adalora", {}, 1_179_936),
        ("vera", {}, 79_872),
        ("loha", {}, 786_432),
        ("lokr", {}, 55_296),
        ("oft", {"oft_block_size": 64}, 774_144),
        ("oft", {}, 380_928),
        ("boft", {}, 172_032),
        ("boft", {"boft_block_size": 8}, 270_336),
        ("hra", {}, 196_608),
        ("ia3", {}, 172_032),
        ("ln_tuning", {}, 98_304),  # the sheet's 100 352 holds the last norm, behind the feature maps
        ("randlora", {}, 811_008),
        ("randlora", {"r": 8}, 3_170_304),
        ("miss", {}, 589_824),
        ("hira", {}, 786_432),
        ("delora", {}, 786_456),
        ("fourierft", {}, 24_000),
        ("waveft", {}, 62_208),
        ("vblora", {"num_vectors": 256, "vector_length": 256}, 458_752),
        ("gralora", {}, 786_432),
        ("dora", {"target": "qv"}, 24 * 2 * (8 * 2048 + 1024)),
        ("rslora", {"target": "qkvo", "r": 4}, 786_432),
    ],
)
def test_counts_of_the_sheet_at_vit_l(name: str, options: dict[str, Any], expected: int) -> None:
    method, trainable = installed(f"peft:{name}", large("dinov3"), options)
    assert count(trainable) == declared(name, method, options) == expected


@pytest.mark.parametrize("backbone", ["sam", "eva02"])
@pytest.mark.parametrize("name", ["dora", "adalora", "lokr", "boft", "ia3", "ln_tuning", "randlora"])
def test_counts_at_sam_h_and_eva02_l(backbone: str, name: str) -> None:
    encoder = large(backbone)
    frozen, block = count(dict(encoder.named_parameters())), encoder.blocks[0]
    hidden: Any = block.mlp.fc2
    method, trainable = installed(f"peft:{name}", encoder, mlp_width=hidden.in_features)
    assert count(trainable) == declared(name, method, {})
    assert sum(p.numel() for key, p in encoder.named_parameters() if "ranknum" not in key) == frozen + count(trainable)


# --- on every backbone


@pytest.mark.parametrize("backbone", ENCODERS)
@pytest.mark.parametrize("name", TESTED)
def test_on_every_backbone(name: str, backbone: str) -> None:
    encoder = draw_biases(tiny(backbone))
    before = maps(encoder)
    method, trainable = installed(f"peft:{name}", encoder)
    for ours, frozen in zip(maps(encoder), before, strict=True):
        assert torch.equal(ours, frozen) if method.identity_at_init else relative(frozen, ours) < 1e-6
    assert_only_trainable_get_gradients(method, encoder)
    shake(trainable)
    assert relative(before[5], maps(encoder)[5]) > 1e-3
    if backbone == "dinov3":
        assert_samples_do_not_mix(encoder)


@pytest.mark.parametrize("name", UNTESTED)
def test_untested_tuners_run_and_are_counted(name: str) -> None:
    encoder = tiny("dinov3")
    before = maps(encoder)
    method, trainable = installed(f"peft:{name}", encoder)
    assert count(trainable) == declared(name, method, {})
    assert relative(before[5], maps(encoder)[5]) < (0 if method.identity_at_init else 0.01) + 1e-9
    shake(trainable)
    assert relative(before[5], maps(encoder)[5]) > 1e-4
    assert_samples_do_not_mix(encoder)


@pytest.mark.parametrize("target", ["qkv_fused", "qv", "qkvo"])
@pytest.mark.parametrize("entry", ["vit_small_patch16_dinov3_qkvb", "eva02_base_patch14_224"])
def test_attention_that_passes_its_layer_by_is_not_inert(entry: str, target: str) -> None:
    encoder = draw_biases(small_vit(entry, in_chans=len(BANDS)))
    before = maps(encoder)
    method, trainable = installed("peft:rslora", encoder, {"target": target})
    assert all(torch.equal(a, b) for a, b in zip(before, maps(encoder), strict=True))
    assert count(trainable) == declared("rslora", method, {"target": target})
    draw({key: p for key, p in trainable.items() if "blocks.5" in key})
    assert relative(before[5], maps(encoder)[5]) > 0.01


@pytest.mark.parametrize("name", TUNERS)
def test_no_tensor_of_a_tuner_decays(name: str) -> None:
    method, trainable = installed(f"peft:{name}", tiny("dinov3"))
    endings = tuple(f".{ending}" for ending in method.no_weight_decay)
    assert all(key.endswith(endings) for key in trainable)
