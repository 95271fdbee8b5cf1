"""`run.py doctor`: what is here and what is not, what suites could run with it, and what mends each lack."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from benchmarks.catalogue import TASKS
from benchmarks.suites import SUITES
from harness import machine, zoo
from harness.plan import Request, make_plan
from tests.audits import prepare
from tests.conftest import ROOT, Program, assert_refused
from tests.data_files import write_loveda
from tests.fbp_files import write_fbp

BACKBONES = (*zoo.BACKBONES, "depth")
LOVEDA = "loveda_r2u"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no GPU, whatever this machine has."""
    import torch

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    driver(tmp_path, "exit 9")
    return folder


def put(hub: Path, repository: str, file: str) -> None:
    """A file in the hub's cache, as its client leaves it."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    path = folder / "snapshots" / "0123abcd" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123abcd")


def driver(tmp_path: Path, *lines: str) -> None:
    """NVIDIA's own program, in so many lines of shell."""
    path = tmp_path / "bin" / "nvidia-smi"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def visit(program: Program, tmp_path: Path, *args: object, exit_code: int = 0) -> dict[str, Any]:
    """What the doctor finds, as JSON."""
    result = program("doctor", "--json", "--results", tmp_path / "results", *args)
    assert result.exit_code == exit_code, result
    body: dict[str, Any] = json.loads(result.out)
    assert body["broken"] == bool(exit_code)
    return body


def suites(body: dict[str, Any], scale: str) -> dict[str, dict[str, Any]]:
    return {suite["suite"]: suite for suite in body["suites"] if suite["scale"] == scale}


def advice(body: dict[str, Any]) -> dict[str, str]:
    return {one["what"]: one["remedy"] for one in body["advice"]}


def remedy(body: dict[str, Any], *words: str) -> str:
    """Of the one lack that is told in these words."""
    (found,) = [mend for what, mend in advice(body).items() if all(word in what for word in words)]
    return found


def test_a_machine_without_anything_runs_the_mini_scale(program: Program, tmp_path: Path) -> None:
    body = visit(program, tmp_path)
    assert body["machine"]["gpus"] == []
    assert body["machine"]["memory"] >= body["machine"]["memory_free"] > 0
    assert {package["name"] for package in body["machine"]["packages"]} >= {"torch", "ray", "onedl-mmsegmentation"}
    assert {found["backbone"]: found["here"] for found in body["weights"] if found["build"] == "mini"} == dict.fromkeys(
        BACKBONES, True
    )
    mini, paper = suites(body, "mini"), suites(body, "paper")
    assert set(mini) == set(paper) == set(SUITES)
    for name in ("smoke", "queries", "controls"):
        trials = len(make_plan(Request(suite=name), None).trials)
        assert mini[name]["trials"] == mini[name]["runnable"] == trials
        assert mini[name]["lacking"] == {"weights": 0, "data": 0, "GPU": 0}
    # one of the controls needs no weights of its backbone
    assert paper["smoke"] | {"suite": "", "scale": ""} == {
        "suite": "",
        "scale": "",
        "trials": 4,
        "runnable": 0,
        "lacking": {"weights": 4, "data": 4, "GPU": 4},
    }
    assert paper["controls"]["lacking"]["weights"] == paper["controls"]["trials"] - 3
    assert paper["severity"]["trials"] == 0
    assert "--data-root DATA" in remedy(body, "no data root")
    assert remedy(body, "not here: weights of", "dinov3_l", "dofa_l", "promptda_l").endswith("weights fetch")
    assert "mini scale needs none" in remedy(body, "no GPU")
    assert not (tmp_path / "results").exists()


def test_the_screen_says_the_same(program: Program, tmp_path: Path) -> None:
    result = program("doctor", "--results", tmp_path / "results")
    assert result.exit_code == 0, result
    for words in (
        "GPU: none",
        "dinov3_l MISSING",
        "dinov3 here",
        "4 of 4",
        "rendered scenes alone",
        "no data root",
        "python run.py weights fetch",
    ):
        assert words in result.text
    assert "broken" not in result.text
    rows = {line.split()[0]: " ".join(line.split()) for line in result.out.splitlines() if line.split()}
    assert rows["smoke"] == "smoke 4 of 4 0 of 4 4 4 4"


def test_weights_in_the_hubs_cache_count(program: Program, tmp_path: Path, hub: Path) -> None:
    put(hub, "torchgeo/dofa", "dofa_large_patch16_224-0ff904d3.pth")
    put(hub, "timm/vit_large_patch16_dinov3.lvd1689m", "model.safetensors")
    put(hub, "timm/vit_large_patch14_dinov2.lvd142m", "config.json")  # not the weights
    body = visit(program, tmp_path)
    here = {found["backbone"] for found in body["weights"] if found["build"] == "paper" and found["here"]}
    assert here == {"dofa", "dinov3"}
    assert suites(body, "paper")["smoke"]["lacking"]["weights"] == 1  # spectralmoe reads depth too
    put(hub, "depth-anything/prompt-depth-anything-vitl", "model.ckpt")
    assert suites(visit(program, tmp_path), "paper")["smoke"]["lacking"]["weights"] == 0


def test_data_here_missing_and_defective(program: Program, tmp_path: Path) -> None:
    root = tmp_path / "data"
    tiles = write_fbp(root)
    body = visit(program, tmp_path, "--data-root", root)
    data = {found["task"]: found for found in body["data"]}
    assert set(data) == set(TASKS)
    assert data["fbp_cs"] | {"outcomes": {}} == {
        "task": "fbp_cs",
        "state": "here",
        "says": "",
        "prepared": False,
        "tiles": len(tiles),
        "checked": [],
        "audit": "not audited",
        "outcomes": {},
    }
    assert data[LOVEDA]["state"] == "missing"
    smoke = suites(body, "paper")["smoke"]
    assert smoke["lacking"]["data"] == 0
    assert smoke["runnable"] == 0
    assert remedy(body, "no run has read", "fbp_cs").endswith(f"data verify fbp_cs --data {root}")
    assert remedy(body, "no audit", "fbp_cs").endswith(f"data audit fbp_cs --data {root}")
    assert f"prepare TASK --raw DOWNLOADS --out {root}" in remedy(body, "data are missing", LOVEDA, "oem_cc")

    next(iter(tiles.values())).image_path.unlink()
    body = visit(program, tmp_path, "--data-root", root)
    (found,) = [found for found in body["data"] if found["task"] == "fbp_cs"]
    assert found["state"] == "defective"
    assert "labels without an image" in remedy(body, "data of fbp_cs are defective")
    assert suites(body, "paper")["smoke"]["lacking"]["data"] == 4
    assert suites(body, "mini")["smoke"]["runnable"] == 4


def test_prepared_data_with_an_audit_and_a_run(program: Program, tmp_path: Path) -> None:
    data = prepare(program, tmp_path, LOVEDA, write_loveda, 64)
    assert data.audit().exit_code == 0
    short = ("--set", "protocol.steps=2", "--set", "protocol.evaluations=1", "--set", "protocol.batch_size=2")
    run = ("--suite", "smoke", "--task", LOVEDA, "--method", "frozen", "--data-root", data.root, *short)
    assert program(*run, "--results", tmp_path / "results").exit_code == 0
    body = visit(program, tmp_path, "--data-root", data.root)
    (found,) = [found for found in body["data"] if found["task"] == LOVEDA]
    assert found["prepared"]
    assert found["checked"] == ["mini"]
    assert found["tiles"] == len(data.rows)
    assert set(found["outcomes"]) == {"urban", "source_val"}
    assert not [what for what in advice(body) if LOVEDA in what]

    data.rewrite(lambda row: replace(row, region="elsewhere"))
    body = visit(program, tmp_path, "--data-root", data.root)
    (found,) = [found for found in body["data"] if found["task"] == LOVEDA]
    assert (found["checked"], found["audit"], found["outcomes"]) == ([], "out of date", None)
    assert remedy(body, "no audit", LOVEDA)
    assert remedy(body, "no run has read", LOVEDA)

    target, source = data.of("urban")[0], data.of("rural")[0]
    shutil.copy(data.root / LOVEDA / source.image, data.root / LOVEDA / target.image)
    assert data.audit().exit_code == 1
    body = visit(program, tmp_path, "--data-root", data.root)
    assert f"data audit {LOVEDA} --data {data.root}" in remedy(body, LOVEDA, "urban overlaps with the source")


def test_a_gpu_that_torch_cannot_use(program: Program, tmp_path: Path) -> None:
    rows = ("NVIDIA H200, 570.1, 143771, 140000", "NVIDIA H200, 570.1, 143771, [N/A]")
    driver(tmp_path, *(f"echo '{row}'" for row in rows))
    body = visit(program, tmp_path)
    assert [gpu["free_mb"] for gpu in body["machine"]["gpus"]] == [140000, 0]
    assert "update the driver" in remedy(body, "570.1", "NVIDIA H200", "cannot use it")
    assert suites(body, "paper")["smoke"]["lacking"]["GPU"] == 4


def test_a_gpu_that_torch_uses(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (2**30, 2**31))
    body = visit(program, tmp_path)
    assert body["machine"]["gpus"] == [{"name": "Some GPU", "driver": "", "memory_mb": 2048, "free_mb": 1024}]
    assert suites(body, "paper")["smoke"]["lacking"]["GPU"] == 0
    assert not [what for what in advice(body) if "GPU" in what]


def pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """The project's own file with one bound changed."""
    text = (ROOT / "pyproject.toml").read_text()
    assert old in text
    (tmp_path / "pyproject.toml").write_text(text.replace(old, new))
    monkeypatch.setattr(machine, "PROJECT", tmp_path / "pyproject.toml")


def test_a_package_outside_its_bounds_is_told(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyproject(tmp_path, monkeypatch, '"timm>=1.0.20"', '"timm>=99"')
    body = visit(program, tmp_path)
    assert "make" in remedy(body, "timm", ">=99")
    result = program("doctor", "--results", tmp_path / "results")
    assert "outside" in result.text


BROKEN = {
    "a package": ('"timm>=1.0.20"', '"no-such-package>=1"', ("no-such-package is not installed",)),
    "Python": ('requires-python = ">=3.11"', 'requires-python = ">=99"', ("python", ">=99")),
}


@pytest.mark.parametrize(("old", "new", "words"), BROKEN.values(), ids=BROKEN)
def test_what_lacks_altogether_breaks_all(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, words: tuple[str, ...]
) -> None:
    pyproject(tmp_path, monkeypatch, old, new)
    body = visit(program, tmp_path, exit_code=1)
    assert "make" in remedy(body, *words)
    assert body["advice"][0]["broken"], "the worst comes first"
    result = program("doctor", "--results", tmp_path / "results")
    assert result.exit_code == 1
    assert "broken: nothing can run" in result.text


def test_a_torch_that_cannot_be_imported_breaks_all(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    body = visit(program, tmp_path, exit_code=1)
    assert "make" in remedy(body, "torch cannot be imported", "ModuleNotFoundError")
    assert "torch: broken" in program("doctor", "--results", tmp_path / "results").text


def test_a_results_folder_that_cannot_be_written_breaks_all(program: Program, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    (tmp_path / "results").chmod(0o755)
    body = visit(program, tmp_path, exit_code=1)
    assert "--results DIR" in remedy(body, str(tmp_path / "results"), "cannot be written")


def test_without_any_weights_nothing_can_run(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    shutil.copytree(ROOT / "harness" / "weights", tmp_path / "kept")
    body = visit(program, tmp_path, exit_code=1)
    assert "pretrain dinov3" in remedy(body, "dinov3_mini.safetensors is missing")
    assert remedy(body, "no suite has a trial")
    # a backbone alone: its trials cannot run, the others can
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "kept")
    (tmp_path / "kept" / "depth_mini.safetensors").unlink()
    smoke = suites(visit(program, tmp_path), "mini")["smoke"]
    assert (smoke["runnable"], smoke["lacking"]["weights"]) == (3, 1)


def test_a_data_root_that_is_no_folder_is_refused(program: Program, tmp_path: Path) -> None:
    assert_refused(program("doctor", "--data-root", tmp_path / "no"), str(tmp_path / "no"), "no folder")
