"""What every method must keep to, ours and theirs, shown by running it: `python run.py check METHOD`.

Each check builds the method on a backbone, does one thing, and says what is wrong, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.tasks import IGNORE
from harness.backbones import build_encoder
from harness.lookup import load_class
from harness.optim import build_optimizer, in_head
from harness.params import count
from harness.scales import SCALES
from harness.segmentor import Losses, Segmentor, build_segmentor
from harness.trial import Trial
from methods.base import Method

BATCH = 3
SAME = 1e-4
"""Relative difference up to which outputs are the same: another batch size rounds differently."""
CHANGED = 1e-4
"""Relative difference from which an output has changed."""
IDENTITY = 1e-5
"""Relative difference up to which a fresh adapter is an identity: some tuners start from orthogonal factors."""


class Specimen:
    """A method on a backbone, built anew as often as a check likes."""

    def __init__(self, trial: Trial) -> None:
        """Draw images and labels for a trial of the method."""
        self.trial = trial
        self.cls: type[Method] = load_class(trial.method.target, trial.method.source_sha256)
        draw = torch.Generator().manual_seed(0)
        side = trial.protocol.crop
        self.images_BCHW = torch.randn(BATCH, len(trial.task.bands), side, side, generator=draw)
        self.labels_BHW = torch.randint(0, len(trial.data.classes), (BATCH, side, side), generator=draw)
        self.labels_BHW[:, :2] = IGNORE

    def build(self, seed: int = 0) -> Segmentor:
        """A fresh model in evaluation mode."""
        return build_segmentor(replace(self.trial, seed=seed)).eval()

    def shaken(self, seed: int = 0) -> Segmentor:
        """A model whose adapter is far from where it starts."""
        model = self.build(seed)
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for _, parameter in adapter_parameters(model):
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.3)
        return model

    def bare(self) -> list[Tensor]:
        """The maps of the backbone without the method."""
        trial = self.trial
        torch.manual_seed(0)
        encoder = build_encoder(
            trial.backbone,
            trial.scale.build,
            trial.task.bands,
            trial.protocol.band_expansion,
            trial.protocol.encoder_init,
        )
        with torch.no_grad():
            found: list[Tensor] = encoder(self.images_BCHW)
        return found

    def step(self, model: Segmentor) -> Losses:
        """One training step up to the gradients, as trials make it."""
        model.train()
        torch.manual_seed(0)
        losses = model.losses(self.images_BCHW, self.labels_BHW)
        losses.total.backward()
        return losses

    def update(self, model: Segmentor) -> None:
        """One whole training step."""
        optimizer = build_optimizer(model, self.trial)
        self.step(model)
        optimizer.step()
        model.method.after_step(1)
        optimizer.zero_grad()


def adapter_parameters(model: Segmentor) -> Iterator[tuple[str, nn.Parameter]]:
    """Trainable tensors outside the head."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not in_head(name, model):
            yield name, parameter


@torch.no_grad()
def maps(model: Segmentor, images_BCHW: Tensor) -> list[Tensor]:
    """The encoder's maps with the method at work, in evaluation mode."""
    found, _ = model.eval()(images_BCHW)
    return list(found)


def difference(some: list[Tensor], others: list[Tensor]) -> float:
    """Largest norm of a difference, relative to the norm of the first."""
    return max(float((a - b).norm() / a.norm().clamp_min(1e-12)) for a, b in zip(some, others, strict=True))


def identity(specimen: Specimen) -> str:
    """A fresh adapter leaves the encoder's output unchanged, if declared."""
    if not specimen.cls.identity_at_init:
        return ""
    model = specimen.build()
    with torch.no_grad():
        # the maps before the pyramid: without prefix tokens and final norm, on the token grid
        model._depth_BMD = model._depth_tokens(specimen.images_BCHW)
        found = model.encoder(specimen.images_BCHW)
    moved = difference(specimen.bare(), found)
    return f"identity_at_init is declared, but fresh features differ by {moved:.1e}" if moved > IDENTITY else ""


def acts(specimen: Specimen) -> str:
    """A shaken adapter changes the encoder's output."""
    fresh, shaken = specimen.build(), specimen.shaken()
    if not list(adapter_parameters(fresh)):
        return ""
    moved = difference(maps(fresh, specimen.images_BCHW), maps(shaken, specimen.images_BCHW))
    return f"inert: random adapter weights change the features by {moved:.1e} only" if moved < CHANGED else ""


def reads_input(specimen: Specimen) -> str:
    """Features follow the image, and the depth cue where the method asks for it."""
    model = specimen.shaken()
    found = maps(model, specimen.images_BCHW)
    others = difference(found, maps(model, specimen.images_BCHW.flip(0)))
    if others < CHANGED:
        return f"features of different images differ by {others:.1e} only: the input is ignored"
    if model.depth is not None:
        model.depth = replace(model.depth, shuffled=not model.depth.shuffled)
        moved = difference(found, maps(model, specimen.images_BCHW))
        if moved < CHANGED * 1e-2:
            return f"another image's depth changes the features by {moved:.1e} only: the depth cue is ignored"
    return ""


def keeps_backbone(specimen: Specimen) -> str:
    """Frozen weights stay frozen, through a whole step."""
    model = specimen.build()
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    specimen.update(model)
    now = dict(model.named_parameters())
    thawed = [name for name in frozen if now[name].requires_grad]
    if thawed:
        return f"{thawed[0]} trains after a step, which is not declared by trains_backbone"
    changed = [name for name, before in frozen.items() if not torch.equal(before, now[name])]
    return f"frozen {changed[0]} has changed after a step" if changed else ""


def gradients(specimen: Specimen) -> str:
    """Every trainable tensor gets a gradient, but for those declared; no frozen one does."""
    model = specimen.build()
    specimen.step(model)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.requires_grad:
            return f"frozen {name} got a gradient"
    declared = model.method.may_be_unused
    for name, parameter in adapter_parameters(model):
        if parameter.grad is None and not name.endswith(tuple(declared)):
            return f"{name} gets no gradient: use it, or declare it in may_be_unused"
    return ""


def samples_apart(specimen: Specimen) -> str:
    """The output of a sample depends on no other one, nor on its place in the batch."""
    model = specimen.shaken()
    together = maps(model, specimen.images_BCHW)
    for i in range(BATCH):
        moved = difference([m[i : i + 1] for m in together], maps(model, specimen.images_BCHW[i : i + 1]))
        if moved > SAME:
            return f"sample {i} alone differs from itself in a batch by {moved:.1e}: samples are mixed"
    order = torch.arange(BATCH).roll(1)
    moved = difference([m[order] for m in together], maps(model, specimen.images_BCHW[order]))
    return f"another order of the batch changes outputs by {moved:.1e}" if moved > SAME else ""


def saves(specimen: Specimen) -> str:
    """Saved weights, loaded into a model from another seed, give the same output."""
    model, other = specimen.shaken(), specimen.shaken(seed=1)
    try:
        other.load_trained(model.trained_state())
    except ValueError as error:
        return f"its saved weights do not load: {error}"
    moved = difference(maps(model, specimen.images_BCHW), maps(other, specimen.images_BCHW))
    linked, again = model.method.queries(), other.method.queries()
    if linked and again and not torch.equal(linked.position_QC, again.position_QC):
        return "linked queries are lost in saving and loading"
    return f"saving and loading changes the features by {moved:.1e}: a weight is not registered" if moved > SAME else ""


def counts(specimen: Specimen) -> str:
    """The number of adapter parameters is the declared one, here and at the paper's sizes."""
    trial = specimen.trial
    for scale in (trial.scale, SCALES["paper"]):
        found = count(trial.method, trial.options, trial.backbone, scale)
        if found.adapter != found.declared:
            return f"{found.adapter:,} adapter parameters at scale {scale.name}, {found.declared:,} by expected_count"
        if found.backbone_trainable and not specimen.cls.trains_backbone:
            return "the backbone trains, which is not declared by trains_backbone"
    return ""


def bf16(specimen: Specimen) -> str:
    """A training step under bf16 autocast is finite."""
    model = specimen.build()
    with torch.autocast("cpu", torch.bfloat16):
        losses = specimen.step(model)
    if not torch.isfinite(losses.total):
        return f"the loss is {float(losses.total)} under bf16 autocast"
    bad = [name for name, p in adapter_parameters(model) if p.grad is not None and not torch.isfinite(p.grad).all()]
    return f"the gradient of {bad[0]} is not finite under bf16 autocast" if bad else ""


def repeats(specimen: Specimen) -> str:
    """The same seed gives the same model and the same step, bit for bit."""
    first, second = specimen.build(), specimen.build()
    for when in ("at the start", "after a step"):
        pairs = zip(first.trained_state().items(), second.trained_state().values(), strict=True)
        differing = [name for (name, a), b in pairs if not torch.equal(a, b)]
        if differing:
            return f"{differing[0]} differs {when} between two models from one seed: random numbers of its own"
        specimen.update(first)
        specimen.update(second)
    return ""


CHECKS: dict[str, Callable[[Specimen], str]] = {
    "identity at start": identity,
    "acts": acts,
    "reads its input": reads_input,
    "keeps the backbone": keeps_backbone,
    "gradients": gradients,
    "samples apart": samples_apart,
    "saves and loads": saves,
    "counts": counts,
    "bf16": bf16,
    "repeats": repeats,
}


def examine(trial: Trial, on_check: Callable[[], None]) -> dict[str, str]:
    """Run all checks on a trial's method and backbone.

    Args:
        trial: names them, with options and protocol.
        on_check: called after each check, for a progress bar.

    Returns:
        What is wrong, by check; empty where all is well.
    """
    torch.set_num_threads(1)
    specimen = Specimen(trial)
    found = {}
    for name, check in CHECKS.items():
        try:
            found[name] = check(specimen)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
            found[name] = f"{type(error).__name__}: {error}"
        on_check()
    return found
