"""Published state dicts turned into those of our models; kernels are resized by timm's functions."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A published state dict under the names and in the sizes of a model.

    Args:
        state: its tensors.
        beside: tensors of the file that belong to another part of the published model.
        resized: those whose shape was changed, with both shapes.
    """

    state: State
    beside: tuple[str, ...]
    resized: Mapping[str, str]


def convert(tensors: Mapping[str, Tensor], model: nn.Module, published_as: str) -> Converted:
    """Convert a published state dict.

    Args:
        tensors: as they lie in the file.
        model: what they are for.
        published_as: whose names they have (see `weight_sources.Source`).

    Raises:
        ValueError: the file holds no such encoder.
    """
    own, beside = _OWN_PART[published_as](tensors)
    # a kernel of a file in half precision is not rounded again after resizing
    own = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in own.items()}
    state = dict(own) if published_as == "dofa" else _timm_filter(model)(dict(own), model)
    resized = {
        name: f"{_shape(own[name])} to {_shape(tensor)}"
        for name, tensor in state.items()
        if name in own and own[name].shape != tensor.shape
    }
    return Converted(state=state, beside=tuple(beside), resized=resized)


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def _timm_filter(model: nn.Module) -> Callable[[State, nn.Module], State]:
    """How timm itself reads checkpoints for a model: each of its model files has a function of this name."""
    read = cast(Any, sys.modules[type(model).__module__]).checkpoint_filter_fn

    def filtered(state: State, model: nn.Module) -> State:
        return cast(State, read(_without_idle_biases(state, model), model))

    return filtered


def _without_idle_biases(state: State, model: nn.Module) -> State:
    """DINOv3 is published with biases of queries and values that are zero, and timm's model leaves them out.

    Raises:
        ValueError: they are not zero, so that the model would compute something else.
    """
    known = {name for name, _ in model.named_parameters()}
    kept = dict(state)
    for name, bias in state.items():
        split = {name, name.replace("qkv.bias", "q_bias")}
        if not name.endswith("attn.qkv.bias") or split & known or "storage_tokens" not in state:
            continue
        query, _, value = bias.chunk(3)
        if query.any() or value.any():
            raise ValueError(f"{name} is not zero, and the model has no such bias")
        del kept[name]
    return kept


Parts = tuple[dict[str, Tensor], list[str]]


def _all(tensors: Mapping[str, Tensor]) -> Parts:
    return dict(tensors), []


def _under(tensors: Mapping[str, Tensor], end: str) -> Parts:
    """The tensors under the one prefix below which a name `end` stands, without that prefix; and the others' names."""
    prefixes = [name.removesuffix(end) for name in tensors if name == end or name.endswith(f".{end}")]
    if len(prefixes) != 1:
        raise ValueError(f"it has {len(prefixes)} tensors called {end}, not one")
    prefix = prefixes[0]
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return own, [name for name in tensors if not name.startswith(prefix)]


def _depth_network(tensors: Mapping[str, Tensor]) -> Parts:
    """The DINOv2 encoder of Depth Anything V2 (`pretrained.`) or PromptDA (with a training class before that)."""
    own, beside = _under(tensors, "pretrained.cls_token")
    inside = {name.removeprefix("pretrained."): t for name, t in own.items() if name.startswith("pretrained.")}
    return inside, beside + [name for name in own if not name.startswith("pretrained.")]


_RENAMED = (
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.register_tokens$", "storage_tokens"),
    (r"^embeddings\.", ""),
    (r"^(encoder\.|model\.)?layer\.(\d+)\.", r"blocks.\2."),
    (r"\.attention\.(attention\.)?(query|key|value)\.", r".attn.\2."),
    (r"\.attention\.q_proj\.", ".attn.query."),
    (r"\.attention\.k_proj\.", ".attn.key."),
    (r"\.attention\.v_proj\.", ".attn.value."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.up_proj\.", ".mlp.fc1."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
)


def _transformers(tensors: Mapping[str, Tensor]) -> Parts:
    """DINOv2 or DINOv3 of `transformers`, alone or in a larger model, back to the names of their authors.

    Those timm reads. No library goes this way, only the other one.
    """
    own, beside = _under(tensors, "embeddings.cls_token")
    renamed: State = {}
    for name, tensor in own.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return _joined(renamed), beside


def _joined(state: State) -> State:
    """Queries, keys and values of a block as one tensor; DINOv3's keys have no bias, which is a bias of zero."""
    joined = dict(state)
    for name in [name for name in state if ".attn.query." in name]:
        parts = {part: name.replace(".query.", f".{part}.") for part in ("query", "key", "value")}
        if name.endswith("bias") and parts["key"] not in state:
            state = {**state, parts["key"]: torch.zeros_like(state[name])}
        if all(part in state for part in parts.values()):
            joined[name.replace(".query.", ".qkv.")] = torch.cat([state[part] for part in parts.values()])
            joined = {kept: tensor for kept, tensor in joined.items() if kept not in parts.values()}
    return joined


_OWN_PART: dict[str, Callable[[Mapping[str, Tensor]], Parts]] = {
    "timm": _all,
    "dofa": _all,
    "depth": _depth_network,
    "transformers": _transformers,
}
