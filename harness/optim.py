"""Optimiser groups, learning-rate schedule and parameter counts: the same rules for every method."""

from __future__ import annotations

import torch
from torch import nn

from harness.scales import Protocol
from harness.segmentor import Segmentor
from harness.trial import Trial

_HEAD_EXEMPT = ("head.transformer.queries_embedder.weight", "head.transformer.level_embed.weight")
_NORMS = (nn.LayerNorm, nn.GroupNorm)


def build_optimizer(model: Segmentor, trial: Trial) -> torch.optim.AdamW:
    """AdamW; norms, query and level embeddings and what the method exempts do not decay (the published group rules)."""
    protocol = trial.protocol
    norms = {id(p) for module in model.modules() if isinstance(module, _NORMS) for p in module.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        of_head = in_head(name, model)
        endings = _HEAD_EXEMPT if of_head else model.method.no_weight_decay
        exempt = id(parameter) in norms or any(f".{name}".endswith(f".{ending}") for ending in endings)
        lr = protocol.lr * (1.0 if of_head else trial.options.lr_scale)
        groups.setdefault((lr, 0.0 if exempt else protocol.weight_decay), []).append(parameter)
    parameters = [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()]
    return torch.optim.AdamW(parameters, fused=True)


def in_head(name: str, model: Segmentor) -> bool:
    """Whether a parameter of that name counts as head: the head's own, and those that serve the method's `pyramid`."""
    return name.startswith(("head.", *(f"method.{part}." for part in model.method.pyramid_parts)))


def build_schedule(optimizer: torch.optim.AdamW, steps: int, protocol: Protocol) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate after each step, by `decay`."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: decay(step, steps, protocol.power, protocol.warmup_steps)
    )


def decay(step: int, steps: int, power: float, warmup: int) -> float:
    """Learning-rate factor of a step: linear warm-up, times (1 - step / steps) ** power."""
    return min(1.0, (step + 1) / (warmup + 1)) * float((1 - min(step, steps) / steps) ** power)


def count_parameters(model: Segmentor) -> dict[str, int]:
    """Numbers by group.

    head: the head's and the method's `pyramid`; backbone: original encoder tensors that train; adapter: all else that
    trains, wherever it lives; frozen; depth encoder.
    """
    counts = dict.fromkeys(("head", "backbone", "adapter", "frozen", "depth_encoder"), 0)
    original = {id(p) for module in model.encoder.own_modules for p in module.parameters(recurse=False)}
    for name, parameter in model.named_parameters():
        group = "adapter"
        if in_head(name, model):
            group = "head"
        elif not parameter.requires_grad:
            group = "depth_encoder" if name.startswith("depth_encoder.") else "frozen"
        elif id(parameter) in original:
            group = "backbone"
        counts[group] += parameter.numel()
    return counts
