"""Optimiser groups, learning-rate schedule and parameter counts: the same rules for every method."""

from __future__ import annotations

import torch
from torch import nn

from harness.segmentor import Segmentor
from harness.trial import Trial

_HEAD_EXEMPT = ("transformer.queries_embedder.weight", "transformer.level_embed.weight")
_NORMS = (nn.LayerNorm, nn.GroupNorm)


def build_optimizer(model: Segmentor, trial: Trial) -> torch.optim.AdamW:
    """AdamW; norms, query and level embeddings and what the method exempts do not decay (the published group rules)."""
    protocol = trial.protocol
    norms = {id(p) for module in model.modules() if isinstance(module, _NORMS) for p in module.parameters()}
    groups = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_head = name.startswith("head.")
        exempt = id(parameter) in norms or _ends_with(name, _HEAD_EXEMPT if in_head else model.method.no_weight_decay)
        groups.append(
            {
                "params": [parameter],
                "lr": protocol.lr * (1.0 if in_head else trial.options.lr_scale),
                "weight_decay": 0.0 if exempt else protocol.weight_decay,
            }
        )
    return torch.optim.AdamW(groups)


def _ends_with(name: str, endings: tuple[str, ...]) -> bool:
    """Whole dotted names only: `tokens` must not exempt `bad_tokens`."""
    return any(f".{name}".endswith(f".{ending}") for ending in endings)


def decay(step: int, steps: int, power: float, warmup: int) -> float:
    """Learning-rate factor of a step: linear warm-up, times (1 - step / steps) ** power."""
    return min(1.0, (step + 1) / (warmup + 1)) * float((1 - min(step, steps) / steps) ** power)


def count_parameters(model: Segmentor) -> dict[str, int]:
    """Numbers by group: head (with the method's pyramid), adapter (all else that trains), frozen, depth encoder."""
    depth = sum(p.numel() for p in model.depth_encoder.parameters()) if model.depth_encoder else 0
    head = sum(p.numel() for p in model.head.parameters())
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"head": head, "adapter": trainable - head, "frozen": total - trainable - depth, "depth_encoder": depth}
