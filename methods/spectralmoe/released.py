"""Reads the state dict of a released `DepthMoE` into our names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from methods.loading import take

TITLE = "SpectralMoE"
_LINEARS = {"mlp_token2feat": "token_to_feature", "mlp_delta_f": "output"}
_LINKS = {"transform": "link.transform", "merge": "link.merge"}


def read_sizes(state_dict: Mapping[str, Tensor], queries: int) -> dict[str, Any]:
    """The options that shapes tell: experts, rank, and tokens where they are not as many as the head's queries.

    Without a first expert there are none to tell; `read_state` then says what is missing.
    """
    experts = sum(name.startswith("experts_a.0.") for name in state_dict)
    if "experts_a.0.0" not in state_dict:
        return {}
    tokens, rank = state_dict["experts_a.0.0"].shape
    return {"experts": experts, "rank": rank, "tokens": 0 if tokens == queries else tokens}


def read_state(
    state_dict: Mapping[str, Tensor], blocks: int, experts: int, routers: int, linked: bool
) -> dict[str, Tensor]:
    """The tensors under our names; those of a query link that is off may be there or not.

    Raises:
        ValueError: names missing or unknown, or experts of different shapes.
    """
    inner = {"experts_a": experts, "experts_b": experts, "w_gate": routers, "w_noise": routers}
    names = {f"{n}.{i}.{j}": f"{n}.{i}.{j}" for n, c in inner.items() for i in range(blocks) for j in range(c)}
    for theirs, ours in (_LINEARS | _LINKS).items():
        for part in (f"{theirs}.weight", f"{theirs}.bias"):
            if theirs in _LINEARS or linked:
                names[part] = part.replace(theirs, ours)
            elif part in state_dict:
                names[part] = ""
    # buffers: the parameters 0 and 1 of a normal distribution
    names |= {"scale": "scale", "mean": "", "std": ""}
    state = take(state_dict, names, TITLE)
    for name, count in inner.items():
        if count:
            state[name.removeprefix("w_")] = _stacked(state, name, blocks, count)
    return state


def _stacked(state: dict[str, Tensor], name: str, blocks: int, count: int) -> Tensor:
    """Take `name.<block>.<j>` out of the state as one tensor [blocks, count, ...]."""
    parts = {f"{name}.{i}.{j}": state.pop(f"{name}.{i}.{j}") for i in range(blocks) for j in range(count)}
    shape = parts[f"{name}.0.0"].shape
    for key, part in parts.items():
        if part.shape != shape:
            raise ValueError(f"{TITLE}: {key} is {tuple(part.shape)}, {name}.0.0 is {tuple(shape)}: they must agree")
    stacked: Tensor = torch.stack(list(parts.values())).unflatten(0, (blocks, count))
    return stacked
