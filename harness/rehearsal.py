"""A training step of a trial without its data: the same model, optimiser and code, on images made up on the spot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.tasks import IGNORE
from harness.pipeline import Batch
from harness.segmentor import Losses, Segmentor, build_segmentor
from harness.split import Split
from harness.train import Course
from harness.trial import Trial

STEPS = 10_000
"""How long the schedule believes that training lasts: the first few steps have the full learning rate."""
BLOCK_PX = 32
"""Side of the squares of one class."""
IGNORED = 0.1
"""Share of the squares without a label."""
_NO_TILES = Split(train=(), source_val=(), targets={})


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What one step came to.

    Args:
        losses: before the step.
        gradients: norm of the gradient of every parameter that got one, by name.
        idle: names of trainable parameters that got none.
        thawed: names of frozen parameters that got one.
    """

    losses: Losses
    gradients: Mapping[str, float]
    idle: tuple[str, ...]
    thawed: tuple[str, ...]


class Rehearsal:
    """A trial's model in training, fed with made-up images.

    Attributes:
        trial: the trial, with a schedule of `STEPS` steps.
        model: its model.
        course: its training.
        batch: what every step is fed.
    """

    def __init__(self, trial: Trial, *, random_weights: bool = False, device: str = "cpu") -> None:
        """Build the model.

        Args:
            trial: which one; its data need not be here.
            random_weights: draw both encoders at random in place of their weights, which then need not be here either.
            device: where to train.

        Raises:
            ValueError: weights are missing or do not fit.
        """
        protocol = trial.protocol.change({"steps": STEPS, "evaluations": 1})
        self.trial, self.device = replace(trial, protocol=protocol), torch.device(device)
        self.model: Segmentor = build_segmentor(self.trial, random_weights=random_weights).to(self.device)
        self.course = Course(self.trial, self.model, _NO_TILES)
        self.batch = made_up_batch(self.trial)

    def step(self, images: int = 0) -> Losses:
        """One training step, as trials make it, on so many images of the batch; 0 for all.

        Raises:
            FloatingPointError: the loss is NaN or infinite.
        """
        whole, count = self.batch, images or len(self.batch.image)
        return self.course.advance(replace(whole, image=whole.image[:count], label=whole.label[:count]), self.device)

    def observed_step(self) -> Rehearsed:
        """One training step, and where its gradients went."""
        named = dict(self.model.named_parameters())
        gradients: dict[str, float] = {}

        def note(name: str, parameter: Tensor) -> None:
            assert parameter.grad is not None, "called after it was accumulated"
            gradients[name] = float(parameter.grad.norm())

        handles = [
            parameter.register_post_accumulate_grad_hook(lambda p, name=name: note(name, p))
            for name, parameter in named.items()
            if parameter.requires_grad
        ]
        losses = self.step()
        for handle in handles:
            handle.remove()
        # a step clears the gradients of what it trains alone
        thawed = {name: p.grad for name, p in named.items() if not p.requires_grad and p.grad is not None}
        return Rehearsed(
            losses=losses,
            gradients={**gradients, **{name: float(gradient.norm()) for name, gradient in thawed.items()}},
            idle=tuple(name for name, p in named.items() if p.requires_grad and name not in gradients),
            thawed=tuple(thawed),
        )


def made_up_batch(trial: Trial) -> Batch:
    """Images of 8-bit noise, normalised, and labels in squares, some of them without a label; always the same."""
    protocol, draw = trial.protocol, torch.Generator().manual_seed(0)
    count, side = protocol.batch_size, protocol.crop
    image = torch.randint(0, 256, (count, len(trial.task.bands), side, side), generator=draw).float()
    squares = -(-side // BLOCK_PX)
    coarse = torch.randint(0, len(trial.data.classes), (count, squares, squares), generator=draw)
    coarse[torch.rand(coarse.shape, generator=draw) < IGNORED] = IGNORE
    label = coarse.repeat_interleave(BLOCK_PX, 1).repeat_interleave(BLOCK_PX, 2)[:, :side, :side]
    return Batch(image=(image - image.mean()) / image.std(), label=label, tiles=())
