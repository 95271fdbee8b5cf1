"""Published checkpoints: read without running them, the adapter found in them, written in our format, and back."""

from __future__ import annotations

import fractions
import hashlib
import io
import json
import os
import shlex
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner.checkpoint import save_checkpoint
from safetensors import safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from harness.adapters import read_adapter
from harness.lookup import find_method, load_class
from tests.conftest import Program, Result, assert_refused
from tests.models import build, features, images

State = dict[str, Tensor]
BLOCKS, WIDTH, QUERIES, QUERY_WIDTH = 6, 96, 16, 64
"""The mini DINOv3 with the mini head."""


def numbers(shapes: Mapping[str, tuple[int, ...]]) -> State:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def linears() -> dict[str, tuple[int, ...]]:
    sizes = {
        "mlp_token2feat": (WIDTH, WIDTH),
        "mlp_delta_f": (WIDTH, WIDTH),
        "transform": (QUERY_WIDTH, WIDTH),
        "merge": (QUERY_WIDTH, 3 * QUERY_WIDTH),
    }
    return {f"{n}.weight": size for n, size in sizes.items()} | {f"{n}.bias": size[:1] for n, size in sizes.items()}


def rein(rank: int = 2, queries: int = QUERIES) -> State:
    low = {"learnable_tokens_a": (BLOCKS, queries, rank), "learnable_tokens_b": (BLOCKS, rank, WIDTH)}
    return numbers((low if rank else {"learnable_tokens": (BLOCKS, queries, WIDTH)}) | linears() | {"scale": ()})


def spectralmoe(experts: int = 3, rank: int = 2) -> State:
    shapes: dict[str, tuple[int, ...]] = {"scale": (), "mean": (1,), "std": (1,)} | linears()
    for i in range(BLOCKS):
        for e in range(experts):
            shapes |= {f"experts_a.{i}.{e}": (QUERIES, rank), f"experts_b.{i}.{e}": (rank, WIDTH)}
        for modality in range(2):
            shapes |= {f"{kind}.{i}.{modality}": (WIDTH, experts) for kind in ("w_gate", "w_noise")}
    return numbers(shapes)


def earth_adapter(dim: int = 4) -> State:
    shapes: dict[str, tuple[int, ...]] = {"scale": (BLOCKS,)}
    for i in range(BLOCKS):
        for expert in ("mlp_list1", "mlp_list2", "mlp_list3"):
            shapes |= {f"{expert}.{i}.0.weight": (dim, WIDTH), f"{expert}.{i}.0.bias": (dim,)}
            shapes |= {f"{expert}.{i}.2.weight": (WIDTH, dim), f"{expert}.{i}.2.bias": (WIDTH,)}
        shapes |= {f"router.{i}.weight": (3, WIDTH), f"router.{i}.bias": (3,)}
    return numbers(shapes)


CASES: dict[str, tuple[str, str, Callable[[], State], dict[str, str]]] = {
    "rein": ("rein", "backbone.reins.", rein, {}),
    "rein full rank": ("rein", "backbone.reins.", lambda: rein(rank=0), {"replace_content": "false"}),
    "depthforge": ("depthforge", "backbone.depthforge.", rein, {}),
    "spectralmoe": ("spectralmoe", "backbone.depthmoe.", spectralmoe, {"gating": "gaussian", "top_k": "2"}),
    "earth_adapter": ("earth_adapter", "backbone.adapter.", earth_adapter, {"fft_layers": "1-3", "rho": "0.6"}),
}
"""Method, where its tensors lie in a checkpoint of its release, those tensors, and what they do not tell."""


def everything(state: State, prefix: str) -> State:
    """The adapter between frozen backbone and head, as a whole model is saved."""
    backbone = {f"backbone.blocks.{i}.{n}": torch.ones(4) for i in range(BLOCKS) for n in ("norm.weight", "norm.bias")}
    head = {"decode_head.query_feat.weight": torch.ones(QUERIES, 2), "decode_head.transform.weight": torch.ones(2, 2)}
    return backbone | {f"{prefix}{name}": tensor for name, tensor in state.items()} | head


def save_training(path: Path, tensors: State) -> Path:
    """A checkpoint as mmengine's runner leaves it: logs and NumPy numbers beside tensors and the optimiser."""
    hub = MessageHub(f"hub {path}")
    hub.update_scalar("train/loss", np.float64(1.5))
    hub.update_scalar("train/loss", 2.5)
    hub.update_info("iter", np.int64(7))
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    meta = {
        "epoch": 0,
        "iter": 7,
        "cfg": "model = dict()",
        "dataset_meta": {"classes": ("a", "b"), "seen": np.arange(3)},
    }
    content = {"meta": meta, "state_dict": OrderedDict(tensors), "message_hub": hub.state_dict()}
    save_checkpoint({**content, "optimizer": optimizer.state_dict(), "param_schedulers": []}, str(path))
    return path


def run(program: Program, file: Path, method: str, *more: object) -> Result:
    return program("import-checkpoint", file, "--method", method, "--backbone", "dinov3", "--scale", "mini", *more)


def settings(method: str, options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("--set", f"{method}.{name}={value}")]


# --- From a published file to a model


@pytest.mark.parametrize("case", CASES)
def test_an_imported_adapter_is_what_from_released_builds(case: str, program: Program, tmp_path: Path) -> None:
    method, prefix, made, options = CASES[case]
    file = save_training(tmp_path / "iter_7.pth", everything(made(), prefix))
    result = run(program, file, method, *settings(method, options))
    assert result.exit_code == 0, result.err
    for words in (f"under {prefix} of state_dict", f"matched {len(made())} tensors", "missing none", "unexpected none"):
        assert words in result.text
    assert f"backbone: {2 * BLOCKS} tensors" in result.text
    assert "decode_head: 2 tensors" in result.text
    assert "not read: meta, message_hub, optimizer, param_schedulers" in result.text

    adapter = read_adapter(tmp_path / f"iter_7.{method}.safetensors")
    assert (adapter.method, adapter.backbone, adapter.scale, adapter.source) == (method, "dinov3", "mini", "iter_7.pth")
    assert (adapter.spec.blocks, adapter.spec.width, adapter.spec.queries) == (BLOCKS, WIDTH, QUERIES)
    expected = load_class(find_method(method).target).from_released(made(), adapter.spec, **options).eval()
    built = adapter.build()
    assert built.options == expected.options
    generator = torch.Generator().manual_seed(1)
    x, depth = (torch.randn(2, 64, WIDTH, generator=generator) for _ in range(2))
    with torch.no_grad():
        for layer in range(BLOCKS):
            ours, theirs = built.refine(x, layer, depth), expected.refine(x, layer, depth)
            x = theirs[0] if isinstance(theirs, tuple) else theirs
            assert torch.equal(ours[0] if isinstance(ours, tuple) else ours, x)
    if expected.queries() is not None:
        assert torch.equal(built.queries().position_QC, expected.queries().position_QC)
        assert built.queries().replace_content == expected.queries().replace_content


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_takes_its_place_in_a_model(case: str, program: Program, tmp_path: Path) -> None:
    method, prefix, made, options = CASES[case]
    file = save_training(tmp_path / "iter_7.pth", everything(made(), prefix))
    assert run(program, file, method, *settings(method, options), "--out", tmp_path / "a.safetensors").exit_code == 0
    adapter = read_adapter(tmp_path / "a.safetensors")
    model = build(method, adapter.options)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn = features(model, images())
    adapter.place(model)
    after = model.state_dict()
    assert {name for name in model.trained_state() if name.startswith("method.")} == set(adapter.tensors)
    assert all(torch.equal(after[name], tensor) for name, tensor in adapter.tensors.items())
    assert all(torch.equal(after[name], before[name]) for name in before.keys() - adapter.tensors.keys())
    reference = build(method, adapter.options)
    reference.method.load_state_dict(adapter.build().state_dict())
    for ours, theirs, fresh in zip(features(model, images()), features(reference, images()), drawn, strict=True):
        assert torch.equal(ours, theirs)
        assert not torch.equal(ours, fresh)


def test_the_name_in_papers_is_stored_as_the_backbones_own(program: Program, tmp_path: Path) -> None:
    file = save_training(tmp_path / "a.pth", rein())
    result = run(program, file, "rein", "--backbone", "dinov3_l")
    assert result.exit_code == 0, result.err
    assert "read for dinov3 at scale mini" in result.text
    assert read_adapter(tmp_path / "a.rein.safetensors").backbone == "dinov3"


def test_an_adapter_of_other_options_is_refused(program: Program, tmp_path: Path) -> None:
    file = save_training(tmp_path / "a.pth", earth_adapter())
    assert run(program, file, "earth_adapter", "--set", "earth_adapter.rho=0.6").exit_code == 0
    adapter = read_adapter(tmp_path / "a.earth_adapter.safetensors")
    with pytest.raises(ValueError, match=r"trained with rho=0\.6, the model has 0\.3"):
        adapter.place(build("earth_adapter", {"dim": 4}))
    with pytest.raises(ValueError, match="is for earth_adapter, the model has rein"):
        adapter.place(build("rein"))


def test_the_file_says_where_it_comes_from(program: Program, tmp_path: Path) -> None:
    file = save_training(tmp_path / "a.pth", spectralmoe())
    assert run(program, file, "spectralmoe").exit_code == 0
    with safe_open(tmp_path / "a.spectralmoe.safetensors", "pt") as opened:
        facts = opened.metadata()
    assert facts["source_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert facts["preset"] == "released"
    options = json.loads(facts["options"])
    assert (options["experts"], options["rank"], options["gating"]) == (3, 2, "l2")


# --- The forms in which files come


def as_safetensors(path: Path, tensors: State) -> None:
    save_file(tensors, path)


def as_legacy(path: Path, tensors: State) -> None:
    torch.save({"state_dict": tensors, "best": np.float64(60)}, path, _use_new_zipfile_serialization=False)


def as_parameters(path: Path, tensors: State) -> None:
    torch.save({"epoch": 3, "model": {"module": {n: torch.nn.Parameter(t) for n, t in tensors.items()}}}, path)


def as_it_is(path: Path, tensors: State) -> None:
    torch.save(tensors, path)


def as_nested(path: Path, tensors: State) -> None:
    torch.save({"weights": {"backbone": tensors}, "names": ["a"]}, path)


@pytest.mark.parametrize("form", [as_safetensors, as_legacy, as_parameters, as_nested, as_it_is])
def test_every_form_of_file(form: Callable[..., Any], program: Program, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    form(path, rein())
    result = run(program, path, "rein")
    assert result.exit_code == 0, result.err
    assert "matched 11 tensors" in result.text
    built = read_adapter(tmp_path / "file.rein.safetensors").build()
    assert torch.equal(built.get_parameter("tokens_a"), rein()["learnable_tokens_a"])


def test_two_copies_need_a_prefix(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "two.pth"
    averaged = {f"ema.{name}": 2 * tensor for name, tensor in rein().items()}
    torch.save({f"model.{name}": tensor for name, tensor in rein().items()} | averaged, path)
    assert_refused(run(program, path, "rein"), "'model'", "'ema'", "--prefix")
    assert_refused(run(program, path, "rein", "--prefix", "emma."), "--prefix emma.", "did you mean 'ema'")
    assert run(program, path, "rein", "--prefix", "ema.").exit_code == 0
    built = read_adapter(tmp_path / "two.rein.safetensors").build()
    assert torch.equal(built.get_parameter("tokens_a"), 2 * rein()["learnable_tokens_a"])


def test_plain_queries_leave_the_link_out(program: Program, tmp_path: Path) -> None:
    file = save_training(tmp_path / "a.pth", rein())
    assert run(program, file, "rein", "--set", "protocol.queries=plain").exit_code == 0
    adapter = read_adapter(tmp_path / "a.rein.safetensors")
    assert not adapter.spec.linked
    assert not any("link" in name for name in adapter.tensors)
    assert adapter.build().queries() is None


# --- What is not there in full


def test_gaps_and_strangers_are_listed_and_refused(program: Program, tmp_path: Path) -> None:
    state = rein()
    del state["merge.bias"], state["scale"]
    state["cls_token"] = torch.ones(1)
    file = save_training(tmp_path / "a.pth", everything(state, "backbone.reins."))
    result = run(program, file, "rein", "--report", tmp_path / "report.json")
    assert_refused(result, "nothing was written", "missing merge.bias", "unknown cls_token")
    assert "under backbone.reins." in result.text
    assert "missing 1 merge.bias unexpected 1 cls_token" in " ".join(result.out.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "report.json"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["missing"], report["unexpected"], report["written"]) == (["merge.bias"], ["cls_token"], None)
    assert set(report["matched"]) == set(state) - {"cls_token"}


def test_what_is_missing_in_numbers_is_cut_on_the_screen_alone(program: Program, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in earth_adapter().items() if not name.startswith("mlp_list2")}
    file = save_training(tmp_path / "a.pth", state)
    result = run(program, file, "earth_adapter", "--report", tmp_path / "report.json")
    assert_refused(result, "missing mlp_list2.0.0.bias", "and 19 more")
    assert "and 12 more (--report FILE lists them all)" in result.text
    assert len(json.loads((tmp_path / "report.json").read_text())["missing"]) == 4 * BLOCKS


@pytest.mark.parametrize(
    ("method", "state", "more", "words"),
    [
        ("rein", lambda: rein(queries=12), (), ("(6, 12, 2)", "spec.queries would have to be 12", "--queries")),
        ("rein", rein, ("--set", "rein.rank=5"), ("rein.rank would have to be 2",)),
        ("earth_adapter", earth_adapter, ("--set", "earth_adapter.dim=7"), ("earth_adapter.dim would have to be 4",)),
        ("depthforge", lambda: {n: t[:4] if "token" in n else t for n, t in rein().items()}, (), ("spec.blocks",)),
    ],
)
def test_shapes_name_what_would_have_to_change(
    method: str, state: Any, more: Any, words: tuple[str, ...], program: Program, tmp_path: Path
) -> None:
    file = save_training(tmp_path / "a.pth", everything(state(), "backbone.x."))
    result = run(program, file, method, *more)
    assert_refused(result, "nothing was written", *words)
    assert "under backbone.x." in result.text


def test_another_number_of_tokens_is_told_by_option(program: Program, tmp_path: Path) -> None:
    file = save_training(tmp_path / "a.pth", rein(queries=12))
    assert run(program, file, "rein", "--queries", "12").exit_code == 0
    assert read_adapter(tmp_path / "a.rein.safetensors").build().queries().position_QC.shape == (12, QUERY_WIDTH)


@pytest.mark.parametrize(
    ("method", "more", "words"),
    [
        ("lora", (), ("lora has no public release",)),
        ("full", (), ("full has no public release",)),
        ("reinn", (), ("did you mean 'rein'",)),
        ("rein", ("--backbone", "dinov9"), ("unknown backbone 'dinov9'",)),
        ("rein", ("--set", "rein.rnk=2"), ("did you mean 'rank'",)),
        ("rein", ("--set", "rein.rank=-1"), ("rein.rank=-1",)),
        ("rein", ("--set", "rank=2"), ("--set rank=2", "method.option=value")),
        ("rein", ("--set", "lora.rank=2"), ("--set lora.rank=2", "'lora'")),
        ("rein", ("--set", "protocol.lr=1"), ("protocol.lr", "queries and crop")),
        ("rein", ("--queries", "-1"), ("--queries -1",)),
        ("rein", ("--out", "nowhere/a.safetensors"), ("nowhere/a.safetensors", "folder")),
        ("spectralmoe", (), ("missing experts_a.0.0", "and 93 more, unknown learnable_tokens_a, learnable_tokens_b")),
        ("earth_adapter", ("--prefix", "decode_head"), ("not a released Earth-Adapter", "unknown query_feat.weight")),
        ("earth_adapter", (), ("not a released Earth-Adapter", "mlp_list1.0.0.bias")),
    ],
)
def test_mistakes_are_told(method: str, more: Any, words: tuple[str, ...], program: Program, tmp_path: Path) -> None:
    file = save_training(tmp_path / "a.pth", everything(rein(), "backbone.reins."))
    assert_refused(run(program, file, method, *more), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize("method", ["rein", "spectralmoe", "earth_adapter"])
def test_a_file_without_any_of_the_names(method: str, program: Program, tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    torch.save({"features.0.bias": torch.ones(2), "features.1.bias": torch.ones(2), "head.a": torch.ones(2)}, file)
    words = ("missing", "unknown nothing", "Its tensors by name: features (2), head (1)")
    assert_refused(run(program, file, method), *words)


def test_nothing_is_overwritten_unasked(program: Program, tmp_path: Path) -> None:
    file = save_training(tmp_path / "a.pth", rein())
    target = tmp_path / "a.rein.safetensors"
    target.write_text("mine")
    assert_refused(run(program, file, "rein"), "exists", "--force")
    assert target.read_text() == "mine"
    assert run(program, file, "rein", "--force").exit_code == 0
    assert read_adapter(target).method == "rein"
    assert_refused(run(program, target, "rein", "--out", target, "--force"), "is the checkpoint itself")
    assert_refused(run(program, file, "rein", "--force", "--out", tmp_path), "cannot be written")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "a.rein.safetensors"]


# --- Files that are not what they should be


class Bomb:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.flag}",)


class Hidden(Bomb):
    """Reached through names that are let pass."""

    def __reduce__(self) -> Any:
        return getattr, (Bomb(self.flag), "real")


@pytest.mark.parametrize("kind", [Bomb, Hidden])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(kind: type[Bomb], zipped: bool, program: Program, tmp_path: Path) -> None:
    file, flag = tmp_path / "a.pth", tmp_path / "flag"
    content = {"state_dict": rein(), "meta": kind(flag)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    result = run(program, file, "rein")
    assert_refused(result, "posix.system", "nothing of it was run", "torch.save(")
    assert not flag.exists()
    torch.load(file, weights_only=False)
    assert flag.exists(), "the bomb is live"


def test_the_remedy_for_an_unknown_class_works(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    torch.save({"state_dict": rein(), "meta": fractions.Fraction(1, 2)}, file)
    result = run(program, file, "rein")
    assert_refused(result, "fractions.Fraction")
    words = shlex.split(result.err[result.err.index("python -c") :])
    assert len(words) == 3
    exec(words[2], {})
    assert run(program, tmp_path / "a.tensors.pth", "rein").exit_code == 0


def zipped(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def flipped(content: State) -> bytes:
    data = bytearray(zipped(content))
    data[data.index(content["transform.weight"].numpy().tobytes())] ^= 1
    return bytes(data)


def other_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return buffer.getvalue()


def safetensors_bytes() -> bytes:
    return save(rein())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "Git LFS pointer"),
        (lambda: b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "web page"),
        (lambda: b"", "empty"),
        (lambda: b"hello, I am no checkpoint", "neither a PyTorch nor a safetensors file"),
        (lambda: zipped(rein())[:-100], "incomplete"),
        (lambda: flipped(rein()), "does not match its checksum"),
        (other_zip, "no PyTorch checkpoint"),
        (lambda: zipped([1, 2]), "holds a list"),
        (lambda: zipped({"epoch": 3}), "no tensors by name"),
        (lambda: safetensors_bytes()[:-8], "incomplete"),
        (lambda: struct.pack("<Q", 50) + b"{" + bytes(30), "incomplete"),
        (lambda: b"\x80\x02" + bytes(range(40)), "damaged"),
    ],
)
def test_damaged_and_foreign_files(data: Callable[[], bytes], words: str, program: Program, tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    file.write_bytes(data())
    assert_refused(run(program, file, "rein"), str(file), words)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_missing_files(program: Program, tmp_path: Path) -> None:
    assert_refused(run(program, tmp_path / "a.pth", "rein"), "a.pth", "No such file")
    assert_refused(run(program, tmp_path, "rein"), "directory")


def test_files_that_are_no_adapters(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="cannot be read"):
        read_adapter(file)
    save_file(rein(), file)
    with pytest.raises(ValueError, match="no adapter file"):
        read_adapter(file)
    assert run(program, file, "rein", "--out", tmp_path / "b.safetensors").exit_code == 0
    with safe_open(tmp_path / "b.safetensors", "pt") as opened:
        facts, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(tensors, file, {**facts, "format_version": "2"})
    with pytest.raises(ValueError, match="has format 2, this program reads 1"):
        read_adapter(file)
    save_file(tensors | {"method.more": torch.ones(1)}, file, facts)
    with pytest.raises(ValueError, match=r"method\.more is unknown"):
        read_adapter(file).place(build("rein", {"rank": 2}))
    del tensors["method.scale"]
    save_file(tensors, file, facts)
    with pytest.raises(ValueError, match="scale is nothing"):
        read_adapter(file).build()
