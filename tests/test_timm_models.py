"""Any ViT of timm as a backbone: by name, in a plan without torch, with its weights, through a run and its tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from benchmarks.catalogue import FBP_CS
from harness import timm_models
from harness.backbone_names import find_backbone
from harness.backbones import build_encoder
from harness.records import RecordStore
from harness.scales import SCALES
from harness.timm_models import feature_blocks, timm_backbone
from harness.zoo import BACKBONES
from tests.conftest import Program, assert_refused, run_process
from tests.fbp_files import write_fbp
from tests.weight_files import drawn, put, same

TINY = "timm:test_vit"
"""timm's own model for tests: six blocks of width 64, four feature blocks, published for 160 pixels."""
FULL = "timm:test_vit.r160_in1k"


@pytest.fixture(autouse=True)
def _ask_anew() -> Iterator[None]:
    timm_backbone.cache_clear()
    yield
    timm_backbone.cache_clear()


def tiny_state() -> dict[str, torch.Tensor]:
    """As timm publishes it: with a classifier."""
    return drawn(timm.create_model("test_vit.r160_in1k", pretrained=False)).state_dict()


@pytest.fixture
def tiny_weights(weights_folder: Path) -> Path:
    """The model's file where the program looks for it."""
    return put(weights_folder, find_backbone(FULL).builds["paper"].sources[0], tiny_state())


# --- names


@pytest.mark.parametrize(
    ("given", "name", "options"),
    [
        ("vit_base_patch16_dinov3", "vit_base_patch16_dinov3.lvd1689m", {}),
        ("vit_small_patch14_dinov2", "vit_small_patch14_dinov2.lvd142m", {"patch_size": 16, "img_size": 16 * 37}),
        ("vit_base_patch32_clip_224", None, {"patch_size": 16, "img_size": 16 * 7}),
        ("vit_base_patch16_224.mae", "vit_base_patch16_224.mae", {}),
    ],
)
def test_a_timm_name_makes_a_backbone(given: str, name: str | None, options: dict[str, int]) -> None:
    """Patches are 16 pixels wide, positions as published, and weights timm's default ones if none are named."""
    spec = find_backbone(f"timm:{given}", "paper")
    build = spec.builds["paper"]
    assert spec.name == build.name == f"timm:{name}" if name else spec.name.startswith(f"timm:{given}.")
    assert build.feature_blocks == (3, 5, 7, 11)
    assert build.options == {"dynamic_img_size": True, **options}
    (source,) = build.sources
    assert source.name == f"{spec.name.replace(':', '/')}/model.safetensors"
    assert source.licence != "see its page"


@pytest.mark.parametrize(
    ("depth", "blocks"), [(24, (7, 11, 15, 23)), (12, (3, 5, 7, 11)), (6, (1, 2, 3, 5)), (32, (9, 15, 20, 31))]
)
def test_feature_blocks_are_spread_as_those_of_the_large_models(depth: int, blocks: tuple[int, ...]) -> None:
    assert feature_blocks(depth) == blocks


@pytest.mark.parametrize("tag", ["", ".lvd1689m"])
def test_one_of_ours_by_its_name_in_timm_is_ours(tag: str) -> None:
    assert find_backbone(f"timm:vit_large_patch16_dinov3{tag}") is BACKBONES["dinov3"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "vit_base_patch16_dinov4",
            r"no model 'vit_base_patch16_dinov4'; did you mean timm:vit_base_patch16_dinov3",
        ),
        ("vit_base_patch16_dinov3.lvd1", r"has no weights 'lvd1' on the hub \(known: lvd1689m\)"),
        ("vit_base_patch16_gap_224", "no published weights on the hub"),
        ("swin_tiny_patch4_window7_224", "swin_tiny_patch4_window7_224 cannot be a backbone: it is hierarchical"),
        ("hiera_tiny_224", "it is hierarchical"),
        ("mixer_b16_224", "cannot be a backbone"),
        ("beit_base_patch16_224", r"it does not take images of any size \(Input height"),
        ("vit_small_r26_s32_224", "its patches are not made by one convolution over red, green and blue"),
        ("vit_dpwee_patch16_reg1_gap_256", "its blocks are not one attention and one MLP each"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        find_backbone(f"timm:{name}")


@pytest.mark.parametrize(
    "command",
    [
        ("--suite", "smoke", "--backbone", TINY),
        ("plan", "--suite", "smoke", "--backbone", TINY),
        ("check", "lora", "--backbone", TINY),
        ("params", "--method", "lora", "--backbone", TINY, "--scale", "mini"),
    ],
)
def test_small_scales_have_no_such_backbone(program: Program, command: tuple[str, ...]) -> None:
    assert_refused(program(*command), f"backbone {TINY} is for --scale paper", "clip, sam, eva02")


def test_list_and_help_tell_of_them(program: Program) -> None:
    assert "timm:NAME" in program("list", "backbones").text
    for command in ((), ("plan",), ("weights", "list")):
        assert "timm:NAME" in program(*command, "--help").text


def test_a_plan_asks_timm_once_and_imports_no_torch(weights_folder: Path) -> None:
    code = f"""
import subprocess, sys
from harness import timm_models
from harness.plan import Request
from harness.foresight import foresee
request = Request(suite="smoke", scale="paper", backbones=("{TINY}",), methods=("frozen",))
for ask in range(2):
    (prospect,) = foresee(request)
    assert prospect.trial.backbone.name == "{FULL}"
    timm_models.timm_backbone.cache_clear()
    subprocess.run = None  # what was answered is kept
assert "torch" not in sys.modules and "timm" not in sys.modules
"""
    done = run_process(code=code)
    assert done.exit_code == 0, done
    (kept,) = weights_folder.glob("timm-*.json")
    assert timm.__version__ in kept.name


def test_a_timm_that_cannot_be_asked_is_no_traceback(
    weights_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "timm_broken.py"
    broken.write_text("")
    monkeypatch.setattr(timm_models, "_PROBE", broken)
    monkeypatch.delitem(sys.modules, "timm")
    with pytest.raises(ValueError, match=r"timm cannot be asked about test_vit: .*harness\.timm_broken"):
        find_backbone(TINY)
    assert not weights_folder.exists()


# --- what they are


def test_its_features_are_timms(tiny_weights: Path) -> None:
    spec = find_backbone(TINY)
    encoder = build_encoder(spec, "paper", spec.bands, "nearest", "pretrained")
    model: Any = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    model.load_state_dict({name: tensor for name, tensor in tiny_state().items() if not name.startswith("head.")})
    x = torch.randn(1, 3, 128, 192)
    with torch.no_grad():
        theirs = model.forward_intermediates(x, indices=[1, 2, 3, 5], intermediates_only=True, norm=False)
        for ours, expected in zip(encoder(x), theirs, strict=True):
            assert ours.shape == (1, 64, 8, 12)
            assert (ours - expected).norm() < 1e-5 * expected.norm()
    four = build_encoder(spec, "paper", FBP_CS.bands, "nearest", "pretrained")
    assert four(torch.zeros(1, 4, 64, 64))[0].shape == (1, 64, 4, 4)


def test_parameters_are_counted(program: Program) -> None:
    done = program("params", "--method", "lora", "--backbone", TINY, "--scale", "paper", "--format", "csv")
    assert f"\nlora,{FULL}," in done.out, done.err


# --- weights


def test_weights_are_listed_verified_and_loaded(program: Program, weights_folder: Path) -> None:
    repository = "timm/test_vit.r160_in1k/model.safetensors"
    missing = program("weights", "list", "--backbone", TINY)
    assert f"{FULL} missing" in missing.text
    assert "apache-2.0" in missing.text
    assert repository in missing.text
    assert "dinov2" not in missing.text
    place = str(weights_folder / repository)
    assert_refused(program("weights", "fetch", "--backbone", TINY), "the hub cannot be reached", place)
    put(weights_folder, find_backbone(TINY).builds["paper"].sources[0], tiny_state())
    loaded = program("weights", "verify", "--load", "--backbone", TINY)
    assert loaded.exit_code == 0, loaded
    assert "missing: none; unexpected: head.bias, head.weight; resized: none" in loaded.text
    spec = find_backbone(TINY)
    model = build_encoder(spec, "paper", spec.bands, "nearest", "pretrained").model
    assert same(model, tiny_state()) == set(model.state_dict())


# --- a run


@pytest.fixture
def _small_paper_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's scale but for sizes that a test can afford."""
    small: dict[str, Any] = {"protocol": SCALES["test"].protocol, "head": SCALES["test"].head, "loader_workers": 0}
    monkeypatch.setitem(SCALES, "paper", replace(SCALES["paper"], **small, fixed_length=True))


SUITE = f"""
name: mine
title: A ViT of timm
cells:
  - {{task: fbp_cs, backbone: "{TINY}", method: frozen}}
table: {{rows: method, columns: backbone}}
"""


@pytest.mark.usefixtures("_small_paper_scale", "tiny_weights")
def test_a_suite_file_may_name_one_and_its_record_is_found_again(program: Program, tmp_path: Path) -> None:
    write_fbp(tmp_path / "data")
    suite, results = tmp_path / "mine.yaml", tmp_path / "results"
    suite.write_text(SUITE)
    words = ("--suite", suite, "--scale", "paper", "--seeds", 1, "--results", results)
    done = program(*words, "--data-root", tmp_path / "data")
    assert done.exit_code == 0, done
    (record,) = RecordStore(results / "paper" / "records", repair=False)
    assert record.inputs["backbone"] == FULL
    again = program(*words, "--data-root", tmp_path / "data")
    assert "1 cached" in again.text
    tables = program("tables", *words[:4], "--results", results)
    assert tables.exit_code == 0, tables
    assert "test_vit.r160_in1k" in tables.text
    assert not program("leaderboard", "--scale", "paper", "--backbone", FULL, "--results", results).exit_code
    image = next((tmp_path / "data").rglob("*.tif*"))
    where = ("--scale", "paper", "--results", results, "--out", tmp_path / "map.tif")
    mapped = program("predict", image, "--record", record.key, *where)
    assert mapped.exit_code == 0, mapped
    refused = program("--suite", suite, "--results", results)
    assert_refused(refused, f"backbone {FULL} is for --scale paper")
