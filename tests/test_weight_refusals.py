"""Weight files that are not what they should be: refused in one message, nothing loaded, nothing in them run."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from harness.weight_loading import load_published
from tests.weight_files import (
    WIDTH,
    any_digest,
    dinov2_state,
    dofa_state,
    hub_model,
    loaded,
    narrow,
    put,
    same,
    source,
    tamper,
)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>Please log in</body></html>")


def _pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1217586395\n")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


SPOILT: dict[str, Callable[[Path], None]] = {"cut": _cut, "page": _page, "pointer": _pointer, "empty": _empty}


@pytest.mark.parametrize("name", ["dinov2", "depth_anything"])
@pytest.mark.parametrize("how", SPOILT)
def test_a_broken_file_is_refused_and_the_right_one_may_take_its_place(
    how: str, name: str, weights_folder: Path
) -> None:
    published = dinov2_state()
    state = published if name == "dinov2" else {f"pretrained.{key}": tensor for key, tensor in published.items()}
    path = put(weights_folder, source(name), state)
    SPOILT[how](path)
    with pytest.raises(ValueError, match=re.escape(str(path))) as refused:
        loaded(narrow(name))
    assert "weights fetch --force" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    put(weights_folder, source(name), state)
    loaded(narrow(name))


def _without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name not in names}


WRONG: dict[str, tuple[Callable[[], dict[str, Tensor]], str]] = {
    "another model": (lambda: dict(hub_model("dinov3").state_dict()), r"missing: .*unexpected: "),
    "a tensor less": (lambda: _without(dinov2_state(), "blocks.1.mlp.fc2.bias"), r"1 missing: blocks.1.mlp.fc2.bias"),
    "a tensor more": (
        lambda: {**dinov2_state(), "blocks.1.attn.extra": torch.zeros(2)},
        r"1 unexpected: blocks.1.attn.extra",
    ),
    "a block more": (
        lambda: dinov2_state() | {k.replace("blocks.1", "blocks.4"): v for k, v in dinov2_state().items()},
        r"14 unexpected: blocks.4",
    ),
    "another width": (
        lambda: dinov2_state() | {"blocks.0.mlp.fc1.weight": torch.zeros(4 * WIDTH, WIDTH + 1)},
        r"1 of another shape: blocks.0.mlp.fc1.weight \(\(256, 65\), the model's is \(256, 64\)\)",
    ),
    "no final norm": (lambda: _without(dinov2_state(), "norm.weight", "norm.bias"), r"2 missing: norm.bias"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_of_something_else_is_refused(what: str, weights_folder: Path) -> None:
    make, said = WRONG[what]
    path = put(weights_folder, source("dinov2"), make())
    with pytest.raises(ValueError, match=said) as refused:
        loaded(narrow("dinov2"))
    for word in ("weights of dinov2_l", str(path), source("dinov2").page, "weights fetch --force"):
        assert word in str(refused.value)
    put(weights_folder, source("dinov2"), dinov2_state())
    loaded(narrow("dinov2"))


def test_known_absences_are_those_of_one_file_alone(weights_folder: Path) -> None:
    """DOFA's file may lack the norm of pooled features, and nothing else."""
    put(weights_folder, source("dofa"), _without(dofa_state(), "cls_token"))
    with any_digest("dofa"), pytest.raises(ValueError, match=r"1 missing: cls_token"):
        loaded(narrow("dofa"))


def test_nothing_is_loaded_of_a_file_that_does_not_fit(weights_folder: Path) -> None:
    put(weights_folder, source("dinov2"), _without(dinov2_state(), "cls_token"))
    model = narrow_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="cls_token"):
        load_published(model, "dinov2_l", [source("dinov2")])
    assert same(model, before) == set(before)


def narrow_model() -> nn.Module:
    """The encoder that the file of `dinov2` is for."""
    spec = narrow("dinov2")
    model = timm.create_model(spec.entry, num_classes=0, **spec.builds["paper"].options)
    assert isinstance(model, nn.Module)
    return model


def test_a_file_is_read_in_full_before_it_is_loaded(weights_folder: Path) -> None:
    """Size and time of change are enough for a plan alone."""
    path = put(weights_folder, source("dinov2"), dinov2_state())
    loaded(narrow("dinov2"))
    tamper(path)
    with pytest.raises(ValueError, match="is another than at first use"):
        loaded(narrow("dinov2"))


class _Trap:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_code_in_a_file_is_not_run(how: str, weights_folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    content = {"pretrained.cls_token": torch.zeros(1, 1, WIDTH), "trap": _Trap(marker)}
    path = weights_folder / source("depth_anything").name
    path.parent.mkdir(parents=True)
    buffer = io.BytesIO()
    if how == "torch":
        torch.save(content, buffer)
    else:
        pickle.dump(content, buffer, protocol=2)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=re.escape(str(path))):
        loaded(narrow("depth_anything"))
    assert not marker.exists()
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(path.read_bytes())
    assert marker.exists(), "the trap works"


def test_missing_weights_are_told_with_the_place_to_put_them(weights_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"weights of dinov2_l are missing") as refused:
        loaded(narrow("dinov2"))
    for word in (
        "weights fetch --backbone dinov2_l",
        source("dinov2").page,
        str(weights_folder / source("dinov2").name),
    ):
        assert word in str(refused.value)
