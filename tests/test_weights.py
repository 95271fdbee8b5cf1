"""Weights on a machine: found, noted, checked, part of the key; the commands `weights list`, `fetch` and `verify`."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError
from safetensors.numpy import save_file

from harness import weights_driver
from harness.plan import Plan, Request, make_plan
from harness.preflight import checked
from harness.records import RecordStore
from harness.scales import SCALES
from harness.status import Status
from harness.train import run_trial
from harness.trial import Trial
from harness.weight_store import find_file
from harness.zoo import BACKBONE_NAMES, BACKBONES, DEPTH_ENCODERS, BackboneSpec, Build
from tests.conftest import Program, Result, assert_refused, run_process
from tests.fbp_files import write_fbp
from tests.weight_files import dinov2_state, hub_model, narrow, put, tamper

DINOV2 = BACKBONES["dinov2"].builds["paper"]
ALL = [spec.builds["paper"] for spec in (*BACKBONES.values(), *DEPTH_ENCODERS.values())]


def write(weights_folder: Path, build: Build = DINOV2, number: int = 0, value: float = 1.0) -> Path:
    """A whole file under a published name, with one tensor: enough where nothing loads it."""
    path = weights_folder / build.sources[number].name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"cls_token": np.full((1, 1, 8), value, np.float32)}, path)
    return path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Plan]:
    """Plans trials of the frozen baseline at the paper's scale, on a small data set."""
    write_fbp(tmp_path / "data")

    def made(*backbones: str, method: str = "frozen", settings: tuple[str, ...] = ()) -> Plan:
        request = Request(
            suite="all",
            scale="paper",
            tasks=("fbp_cs",),
            backbones=backbones or ("dinov2",),
            methods=(method,),
            seeds=1,
            settings=settings,
            data_root=tmp_path / "data",
        )
        return make_plan(request, None)

    return made


def only(plan: Plan) -> Trial:
    """The one trial of a plan."""
    (planned,) = plan.trials
    return planned.trial


# --- the key


def test_the_digest_is_part_of_the_key(make: Callable[..., Plan], weights_folder: Path) -> None:
    missing = only(make())
    assert missing.weights == {"dinov2": DINOV2.weights}
    assert missing.missing_weights == {"dinov2": DINOV2}
    keys = {missing.key}
    for value in (1.0, 2.0):
        path = write(weights_folder, value=value)
        trial = only(make())
        assert re.fullmatch("[0-9a-f]{64}", trial.weights["dinov2"])
        assert not trial.missing_weights
        keys.add(trial.key)
        path.with_name("model.safetensors.sha256.json").unlink()
    assert len(keys) == 3


def test_the_key_is_the_same_wherever_the_file_lies(
    make: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = set()
    for name in ("one", "two"):
        monkeypatch.setenv("DGSS_BENCH_WEIGHTS", str(tmp_path / name))
        write(tmp_path / name)
        keys.add(only(make()).key)
    monkeypatch.setenv("DGSS_BENCH_WEIGHTS", str(tmp_path / "three"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / f"models--{DINOV2.sources[0].repository.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    write(tmp_path / "blob").rename(tmp_path / "blob.safetensors")
    (repository / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("a" * 40) / "model.safetensors").symlink_to(tmp_path / "blob.safetensors")
    keys.add(only(make()).key)
    assert len(keys) == 1
    note = tmp_path / "three" / f"{DINOV2.sources[0].name}.sha256.json"
    assert json.loads(note.read_text())["sha256"] == only(make()).weights["dinov2"]


def test_a_random_encoder_needs_no_weights(make: Callable[..., Plan], weights_folder: Path) -> None:
    trial = only(make(settings=("protocol.encoder_init=random",)))
    assert trial.weights == {"dinov2": "random"}
    assert not trial.missing_weights


@pytest.mark.parametrize("name", DEPTH_ENCODERS)
def test_the_depth_encoder_is_promptdas_or_depth_anythings(
    name: str, make: Callable[..., Plan], weights_folder: Path
) -> None:
    trial = only(make(method="spectralmoe", settings=(f"protocol.depth_model={name}",)))
    assert trial.depth_encoder is DEPTH_ENCODERS[name]
    assert trial.missing_weights["depth"] is DEPTH_ENCODERS[name].builds["paper"]
    assert only(make(method="spectralmoe")).depth_encoder is DEPTH_ENCODERS["promptda"]


def test_the_depth_encoder_of_the_mini_scale_is_one(program: Program) -> None:
    keys = set()
    for name in DEPTH_ENCODERS:
        request = Request(suite="smoke", methods=("spectralmoe",), settings=(f"protocol.depth_model={name}",))
        keys.add(frozenset(make_plan(request, None).keys))
    assert len(keys) == 1


# --- noted and checked


def test_another_file_under_the_same_name_is_refused(
    program: Program, make: Callable[..., Plan], weights_folder: Path
) -> None:
    path = write(weights_folder)
    before = only(make()).key
    write(weights_folder, value=2.0)
    with pytest.raises(ValueError, match="is another than at first use") as refused:
        make()
    for word in (str(path), "weights fetch --force", f"delete {path}.sha256.json"):
        assert word in str(refused.value)
    write(weights_folder)
    assert only(make()).key == before, "the file of then is welcome again"


def test_an_untouched_file_is_not_read_again_by_a_plan(make: Callable[..., Plan], weights_folder: Path) -> None:
    path = write(weights_folder)
    key = only(make()).key
    tamper(path)
    assert only(make()).key == key
    file = find_file(DINOV2.sources)
    assert file
    with pytest.raises(ValueError, match="is another than at first use"):
        file.check()


def test_an_incomplete_file_is_not_noted(make: Callable[..., Plan], weights_folder: Path) -> None:
    path = write(weights_folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match=r"is incomplete or no weight file \(.* bytes\)"):
        make()
    path.write_bytes(whole)
    only(make())


@pytest.mark.parametrize("content", ["", "[]", "{}", "\\xff"])
def test_a_note_that_holds_no_digest_is_refused(content: str, make: Callable[..., Plan], weights_folder: Path) -> None:
    note = Path(f"{write(weights_folder)}.sha256.json")
    only(make())
    note.write_text(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(note))} holds no digest .*: delete it"):
        make()
    note.unlink()
    only(make())


def test_a_worker_with_other_weights_does_not_train(make: Callable[..., Plan], weights_folder: Path) -> None:
    write(weights_folder)
    trial = only(make())
    assert trial.key
    sent = pickle.loads(pickle.dumps(trial))
    sent.confirm_weights()
    path = write(weights_folder, value=2.0)
    path.with_name("model.safetensors.sha256.json").unlink()
    with pytest.raises(ValueError, match="give both machines the same file"):
        sent.confirm_weights()


# --- without them


def test_a_plan_without_weights_says_so(program: Program, tmp_path: Path, weights_folder: Path) -> None:
    write_fbp(tmp_path / "data")
    write(weights_folder, BACKBONES["clip"].builds["paper"])
    args = ("--suite", "all", "--scale", "paper", "--method", "frozen", "--seeds", 1, "--data-root", tmp_path / "data")
    chosen = ("--task", "fbp_cs", "--backbone", "clip", "--backbone", "dinov2", "--results", tmp_path / "results")
    result = program("plan", *args, *chosen)
    assert result.exit_code == 0, result
    assert "weights missing of 1 encoder: dinov2_l. The keys of their trials are preliminary" in result.text
    assert "weights fetch --backbone dinov2_l" in result.text
    assert "2 to run" in result.text
    write(weights_folder)
    assert "weights missing" not in program("plan", *args, *chosen).text


def test_a_run_skips_what_has_no_weights(
    make: Callable[..., Plan], tmp_path: Path, weights_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(weights_folder, BACKBONES["clip"].builds["paper"])
    store = RecordStore(tmp_path / "results" / "records", repair=True)
    store.prepare()
    plan = checked(make("clip", "dinov2").beside(store), tmp_path / "results", store)
    statuses = {planned.trial.backbone.name: planned.status for planned in plan.trials}
    assert statuses == {"clip": Status.PLANNED, "dinov2": Status.SKIPPED}
    assert plan.defective == {"dinov2_l"}
    assert "weights of dinov2_l are missing" in plan.skipped["dinov2_l"]
    with pytest.raises(ValueError, match="weights of dinov2_l are missing"):
        checked(make("dinov2").beside(store), tmp_path / "results", store)


def test_a_run_without_any_weights_is_refused(program: Program, tmp_path: Path, weights_folder: Path) -> None:
    write_fbp(tmp_path / "data")
    args = ("--suite", "all", "--scale", "paper", "--method", "frozen", "--seeds", 1, "--data-root", tmp_path / "data")
    result = program(*args, "--task", "fbp_cs", "--backbone", "dinov2", "--results", tmp_path / "results")
    assert_refused(result, "weights of dinov2_l are missing", "weights fetch --backbone dinov2_l", str(weights_folder))


# --- the commands


def listed(result: Result) -> dict[str, str]:
    """What is said of each file, by where it comes from."""
    assert result.exit_code == 0, result
    lines = result.out.splitlines()
    files = [index for index, line in enumerate(lines) if line.startswith("    ")]
    return {lines[i].split(",")[0].strip(): f"{lines[i - 1]} {lines[i]}" for i in files}


def test_list_says_where_everything_comes_from(program: Program, weights_folder: Path) -> None:
    path = write(weights_folder)
    write(weights_folder, number=1)
    used = find_file(DINOV2.sources)
    assert used
    digest = used.check()
    result = program("weights", "list")
    shown = listed(result)
    first, second = (shown.pop(source.name) for source in DINOV2.sources)
    assert re.match(r"dinov2_l +present +1.22 GB  Apache-2.0 ", first)
    assert first.endswith(f"{DINOV2.sources[0].name}, sha256 {digest[:16]}")
    assert re.match(r"  or +present, not used ", second)
    assert second.endswith("sha256 noted at first use")
    for build in ALL:
        for number, source in enumerate(build.sources if build is not DINOV2 else ()):
            said = shown.pop(source.name)
            assert re.match(rf"{'  or' if number else build.name} +missing +{source.gigabytes:.2f} GB", said)
            assert source.licence in said
            assert (
                ("gated" in said) == source.gated == (source.repository == "facebook/dinov3-vitl16-pretrain-lvd1689m")
            )
    shipped = {f"shipped: {spec.builds['mini'].weights}" for spec in (*BACKBONES.values(), *DEPTH_ENCODERS.values())}
    assert set(shown) == shipped
    assert path.is_relative_to(weights_folder)
    assert f"weights folder: {weights_folder}" in result.out


def test_list_shows_what_is_asked_for(program: Program, weights_folder: Path) -> None:
    for name in ("dinov3", "dinov3_l"):
        shown = listed(program("weights", "list", "--backbone", name))
        sources = BACKBONES["dinov3"].builds["paper"].sources
        assert set(shown) == {"shipped: dinov3_mini.safetensors", *(source.name for source in sources)}
    assert len(listed(program("weights", "list", "--backbone", "depth"))) == 5
    assert len(listed(program("weights", "list", "--backbone", "promptda_l"))) == 3
    assert_refused(program("weights", "list", "--backbone", "dinov9"), "dinov9", "did you mean 'dinov")


def test_list_imports_no_torch() -> None:
    code = "import sys; sys.argv = ['run.py', 'weights', 'list']\nfrom harness.cli import run\n"
    code += "try: run()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules, 'torch'"
    assert run_process(code=code).exit_code == 0


def test_fetch_without_a_network_says_which_file_to_put_where(program: Program, weights_folder: Path) -> None:
    result = program("weights", "fetch", "--backbone", "dinov2")
    source = DINOV2.sources[0]
    assert_refused(result, "the hub cannot be reached", source.file, source.page, str(weights_folder / source.name))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub that gives files, or refuses as told; what was asked of it."""
    asked: list[tuple[str, str, str | None]] = []
    refusals: dict[str, Exception] = {}

    def give(repository: str, file: str, *, local_dir: Path | None = None, force_download: bool = False) -> str:
        asked.append((repository, file, str(local_dir) if local_dir else None))
        if repository in refusals:
            raise refusals[repository]
        path = (local_dir or tmp_path / "cache" / repository) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"cls_token": np.ones(8, np.float32)}, path)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", give)
    give.asked, give.refusals = asked, refusals  # type: ignore[attr-defined]
    return give


def refusal(kind: type[Any]) -> Exception:
    """As the hub's library raises it."""
    error: Exception = kind("no", response=SimpleNamespace(headers={}, request=None))
    return error


def test_fetch_downloads_what_is_not_here(program: Program, hub: Any, weights_folder: Path) -> None:
    source = DINOV2.sources[0]
    place = weights_folder / source.name
    first = program("weights", "fetch", "--backbone", "dinov2_l")
    assert first.exit_code == 0, first
    assert f"fetched dinov2_l: {place} (sha256 " in first.text
    assert hub.asked == [(source.repository, source.file, str(place.parent))]
    assert f"present dinov2_l: {place}" in program("weights", "fetch", "--backbone", "dinov2").text
    assert len(hub.asked) == 1
    program("weights", "fetch", "--backbone", "dinov2", "--force")
    assert len(hub.asked) == 2


def test_fetch_into_another_folder_says_how_trials_find_it(program: Program, hub: Any, tmp_path: Path) -> None:
    result = program("weights", "fetch", "--backbone", "dinov2", "--folder", tmp_path / "shared")
    assert f"export DGSS_BENCH_WEIGHTS={tmp_path / 'shared'}" in result.text
    assert (tmp_path / "shared" / DINOV2.sources[0].name).is_file()
    again = program("weights", "list", "--backbone", "dinov2", "--folder", tmp_path / "shared")
    assert re.search(r"dinov2_l +present", again.out)
    assert re.search(r"dinov2_l +missing", program("weights", "list", "--backbone", "dinov2").out)


def test_fetch_without_a_folder_uses_the_hubs_cache(program: Program, hub: Any, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path / "home"))
        program("weights", "fetch", "--backbone", "dinov2")
        source = DINOV2.sources[0]
        assert hub.asked == [(source.repository, source.file, None)]
        assert (tmp_path / "home" / "dgss-bench" / f"{source.name}.sha256.json").is_file()


def test_fetch_goes_on_after_a_refusal_and_tells_the_way_out(program: Program, hub: Any, weights_folder: Path) -> None:
    gated, absent, good = (BACKBONES[name].builds["paper"] for name in ("clip", "sam", "dinov2"))
    hub.refusals[gated.sources[0].repository] = refusal(GatedRepoError)
    hub.refusals[absent.sources[0].repository] = refusal(RemoteEntryNotFoundError)
    result = program("weights", "fetch", *(f"--backbone={build.name}" for build in (gated, absent, good)))
    assert f"fetched {good.name}" in result.text
    page = gated.sources[0].page
    assert_refused(result, f"licence must be accepted at {page}", "hf auth login", "the hub has no such file")


def test_verify_tells_changed_files_from_whole_ones(program: Program, weights_folder: Path) -> None:
    path = write(weights_folder)
    first = program("weights", "verify")
    assert first.exit_code == 0, first
    assert f"ok dinov2_l: {path} (sha256 " in first.text
    assert "noted now" in first.text
    assert "missing clip_l: " in first.text
    again = program("weights", "verify", "--backbone", "dinov2")
    assert again.exit_code == 0
    assert "noted now" not in again.text
    write(weights_folder, value=2.0)
    changed = program("weights", "verify", "--backbone", "dinov2")
    assert changed.exit_code == 1
    assert f"wrong dinov2_l: weight file {path} is another than at first use" in changed.text
    assert program("weights", "verify", "--backbone", "clip").exit_code == 0


# --- from the command to the model, at a narrow width


@pytest.fixture
def narrow_dinov2(monkeypatch: pytest.MonkeyPatch) -> BackboneSpec:
    """The published build of DINOv2, but for width and depth, in the place of the true one."""
    spec = narrow("dinov2")
    monkeypatch.setattr(weights_driver, "_ENCODERS", (spec,))
    for name in ("dinov2", "dinov2_l"):
        monkeypatch.setitem(BACKBONE_NAMES, name, spec)
    monkeypatch.setitem(BACKBONES, "dinov2", spec)
    return spec


def test_verify_loads_if_asked_to(program: Program, narrow_dinov2: BackboneSpec, weights_folder: Path) -> None:
    path = put(weights_folder, DINOV2.sources[0], dinov2_state())
    result = program("weights", "verify", "--load")
    assert result.exit_code == 0, result
    resized = "patch_embed.proj.weight 64 x 3 x 14 x 14 to 64 x 3 x 16 x 16"
    for said in (str(path), "62 tensors matched; missing: none; unexpected: none", f"resized: {resized}"):
        assert said in result.text
    put(weights_folder, DINOV2.sources[0], hub_model("dinov3").state_dict())
    Path(f"{path}.sha256.json").unlink()
    assert program("weights", "verify").exit_code == 0, "whole, and never seen"
    refused = program("weights", "verify", "--load")
    assert refused.exit_code == 1
    assert "wrong dinov2_l: " in refused.text
    assert "its tensors are not those of the model" in refused.text


def test_a_trial_is_known_by_the_weights_it_was_made_with(
    narrow_dinov2: BackboneSpec, make: Callable[..., Plan], weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's scale but for sizes that a test can afford."""
    small = {"protocol": SCALES["test"].protocol, "head": SCALES["test"].head, "loader_workers": 0}
    monkeypatch.setitem(SCALES, "paper", replace(SCALES["paper"], **small, fixed_length=True))
    path = put(weights_folder, DINOV2.sources[0], dinov2_state())
    trial = only(make("dinov2"))
    key, sent = trial.key, pickle.dumps(trial)
    record = run_trial(trial)
    assert record.status is Status.DONE, record.error
    assert record.key == key
    assert record.inputs["weights"] == {"dinov2": hashlib.sha256(path.read_bytes()).hexdigest()}
    put(weights_folder, DINOV2.sources[0], {**dinov2_state(), "cls_token": dinov2_state()["cls_token"] + 1})
    Path(f"{path}.sha256.json").unlink()
    elsewhere = run_trial(pickle.loads(sent))
    assert elsewhere.status is Status.FAILED
    assert elsewhere.error
    assert "give both machines the same file" in elsewhere.error["message"]
    assert only(make("dinov2")).key != key
