"""The paper's recipe as data: what every trial at its scale is told, and what optimiser and schedule make of it."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.catalogue import TASKS
from benchmarks.tasks import TileRef
from harness.cost import HEAD_PARAMETERS
from harness.foresight import lone_trial
from harness.params import count, meta_segmentor
from harness.segmentor import Segmentor
from harness.split import Split
from harness.train import Course
from harness.trial import Trial

TILES = 28_350
"""Training tiles of FBP: 210 of each of 135 scenes."""


def paper_trial(method: str, *settings: str, task: str = "fbp_cs") -> Trial:
    return lone_trial("paper", task, "dinov3_l", method, settings)


@cache
def meta_model(method: str) -> Segmentor:
    """A model at the paper's sizes without values."""
    trial = paper_trial(method)
    return meta_segmentor(trial.method, trial.options, trial.backbone, trial.scale)


def course(trial: Trial, tiles: int = TILES) -> Course:
    train = tuple(TileRef(domain="source", scene=str(i), name=str(i)) for i in range(tiles))
    return Course(trial, meta_model(trial.method.name), Split(train=train, source_val=(), targets={}))


@pytest.mark.parametrize("method", ["rein", "spectralmoe"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_trained_alike(task: str, method: str) -> None:
    protocol = paper_trial(method, task=task).protocol
    assert (protocol.crop, protocol.batch_size) == (512, 8)
    assert (protocol.lr, protocol.weight_decay) == (1e-4, 0.05)
    assert (protocol.power, protocol.warmup_steps, protocol.clip_norm) == (0.9, 0, 0)
    assert (protocol.epochs, protocol.steps, protocol.evaluations) == (20, 0, 20)
    assert (protocol.flip, protocol.cat_max_ratio, protocol.max_tiles) == (True, 0.75, 0)
    assert protocol.precision == "bf16"


def exempt(model: Segmentor) -> set[str]:
    """Names of what must not decay: norms, the head's embeddings of queries and levels, what the method exempts."""
    names = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm)
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }
    embeddings = ("head.transformer.queries_embedder.weight", "head.transformer.level_embed.weight")
    own = {
        "rein": ("tokens_a", "tokens_b", "scale"),
        "spectralmoe": ("experts_a", "experts_b", "gate", "noise", "scale"),
    }
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    methods = {f"method.{name}" for name in own.get(type(model.method).Options.name, ())}
    return names | trained & {*embeddings, *methods}


@pytest.mark.parametrize("method", ["frozen", "rein", "spectralmoe"])
def test_the_optimiser_is_the_published_one(method: str) -> None:
    model = meta_model(method)
    optimizer = course(paper_trial(method)).optimizer
    assert type(optimizer) is torch.optim.AdamW
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {((0.9, 0.999), 1e-8)}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates: dict[str, Any] = {
        names[id(p)]: (group["initial_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert set(rates) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    free = exempt(model)
    assert len(free) > 40
    assert rates == {name: (1e-4, 0.0 if name in free else 0.05) for name in rates}


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [((), 20), (("protocol.epochs=10", "protocol.evaluations=10"), 10)],
    ids=["published", "FLAIR as released"],
)
def test_the_rate_falls_to_zero_over_the_epochs(settings: tuple[str, ...], epochs: int) -> None:
    trial = paper_trial("rein", *settings, task="flair_cr")
    assert trial.labels()["recipe"] == ", ".join(setting.removeprefix("protocol.") for setting in settings)
    trained = course(trial)
    assert trained.steps == math.ceil(epochs * TILES / 8)
    assert trained.points == {round(trained.steps * epoch / epochs) for epoch in range(1, epochs + 1)}
    for factor in trained.schedule.lr_lambdas:
        for step in (0, 1, trained.steps // 3, trained.steps - 1, trained.steps):
            assert factor(step) == pytest.approx((1 - step / trained.steps) ** 0.9, abs=1e-12)


def test_the_head_has_its_published_size() -> None:
    trial = paper_trial("frozen")
    assert len(trial.data.classes) == 24
    assert count(trial.method, trial.options, trial.backbone, trial.scale).head == HEAD_PARAMETERS == 20_566_489
    assert sum(parameter.numel() for parameter in meta_model("frozen").head.parameters()) == HEAD_PARAMETERS
