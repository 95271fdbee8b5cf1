"""What every method must keep to, ours and theirs, shown by running it: `python run.py check METHOD`.

Each check builds the method on a backbone, does one thing, and says what is wrong, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.tasks import IGNORE
from harness.backbones import Encoder
from harness.lookup import built_in, load_class
from harness.optim import build_optimizer
from harness.params import Count, adapter_parameters, count, frozen_parameters, unregistered
from harness.scales import SCALES, Scale
from harness.segmentor import Losses, Segmentor, build_segmentor
from harness.sources import place
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

    def build(self, seed: int = 0, precision: str = "fp32") -> Segmentor:
        """A fresh model in evaluation mode."""
        protocol = self.trial.protocol.change({"precision": precision})
        return build_segmentor(replace(self.trial, seed=seed, protocol=protocol)).eval()

    def shaken(self, seed: int = 0) -> Segmentor:
        """A model whose adapter is far from where it starts."""
        model = self.build(seed)
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for _, parameter in adapter_parameters(model):
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.3)
        return model

    def bare(self) -> Encoder:
        """The backbone without the method."""
        frozen = built_in("frozen")
        return build_segmentor(replace(self.trial, seed=0, method=frozen, options=frozen.options_class())).encoder

    def count(self, scale: Scale) -> Count:
        """The parameters by group."""
        return count(self.trial.method, self.trial.options, self.trial.backbone, scale)

    def step(self, model: Segmentor) -> Losses:
        """One training step up to the gradients, as trials make it."""
        model.train()
        torch.manual_seed(0)
        losses = model.losses(self.images_BCHW, self.labels_BHW)
        losses.total.backward()
        return losses

    def update(self, model: Segmentor) -> Losses:
        """Two whole training steps; the losses of the second."""
        optimizer = build_optimizer(model, self.trial)
        for step in (1, 2):
            optimizer.zero_grad()
            losses = self.step(model)
            optimizer.step()
            model.method.after_step(step)
        return losses


@torch.no_grad()
def maps(model: Segmentor, images_BCHW: Tensor) -> list[Tensor]:
    """The maps that the head gets, in evaluation mode."""
    found, _ = model.eval()(images_BCHW)
    if not all(torch.isfinite(m).all() for m in found):
        raise ValueError("features are NaN or infinite in evaluation")
    return list(found)


@torch.no_grad()
def all_maps(model: Segmentor, images_BCHW: Tensor) -> list[Tensor]:
    """The maps that the head gets, and what leaves every block."""
    return [*maps(model, images_BCHW), *model.features(images_BCHW, every_block=True)]


def difference(some: list[Tensor], others: list[Tensor], pick: Callable[[Iterable[float]], float] = max) -> float:
    """The largest norm of the differences of pairs, relative to the norm of the first; `min` picks the smallest."""
    return pick(float((a - b).norm() / a.norm().clamp_min(1e-12)) for a, b in zip(some, others, strict=True))


def runs(specimen: Specimen) -> str:
    """A model is built and takes a batch."""
    maps(specimen.build(), specimen.images_BCHW)
    return ""


def identity(specimen: Specimen) -> str:
    """A fresh adapter leaves the encoder's output unchanged, if declared."""
    if not specimen.cls.identity_at_init:
        return ""
    model = specimen.build()
    with torch.no_grad():
        moved = difference(specimen.bare()(specimen.images_BCHW), model.features(specimen.images_BCHW))
    if moved > IDENTITY:
        return f"a fresh adapter changes the features by {moved:.1e}: start it at zero, or set identity_at_init = False"
    return ""


def acts(specimen: Specimen) -> str:
    """A shaken adapter changes the features, or the queries where it is made of nothing else."""
    fresh, shaken = specimen.build(), specimen.shaken()
    names = [name for name, _ in adapter_parameters(fresh)]
    before, after = fresh.method.queries(), shaken.method.queries()
    in_blocks = fresh.method.overrides("refine") or any(name.startswith("encoder.") for name in names)
    if not names or (not in_blocks and before and after and not torch.equal(before.position_QC, after.position_QC)):
        return ""
    moved = difference(maps(fresh, specimen.images_BCHW), maps(shaken, specimen.images_BCHW))
    return f"inert: random adapter weights change the features by {moved:.1e} only" if moved < CHANGED else ""


def reads_input(specimen: Specimen) -> str:
    """Features follow the image, and the depth cue where the method asks for it."""
    model = specimen.shaken()
    found = all_maps(model, specimen.images_BCHW)
    others = difference(found, all_maps(model, specimen.images_BCHW.flip(0)), min)
    if others < CHANGED:
        return f"features of different images differ by {others:.1e} only: the input is ignored"
    if model.depth is not None:
        model.depth = replace(model.depth, shuffled=not model.depth.shuffled)
        moved = difference(found, all_maps(model, specimen.images_BCHW))
        if moved < CHANGED * 1e-2:
            return f"another image's depth changes the features by {moved:.1e} only: the depth cue is ignored"
    return ""


def keeps_backbone(specimen: Specimen) -> str:
    """Frozen weights stay frozen and as they are, from the start and through whole steps."""
    if specimen.count(specimen.trial.scale).backbone_trainable and not specimen.cls.trains_backbone:
        return "the backbone trains, which is not declared by trains_backbone"
    model = specimen.build()
    original = dict(specimen.bare().named_parameters(prefix="encoder"))
    frozen = {name: p.detach().clone() for name, p in frozen_parameters(model)}
    for name, now in frozen.items():
        # wrappers rename what they wrap
        before = original.get(name.replace(".base_layer.", "."), now)
        if before.shape == now.shape and not torch.equal(before, now):
            return f"install changes the values of frozen {name}"
    specimen.update(model)
    after = dict(frozen_parameters(model))
    for name, before in frozen.items():
        if name not in after:
            return f"{name} is frozen at first and trains later, which is not declared by trains_backbone"
        if not torch.equal(before, after[name]):
            return f"frozen {name} has other values after training"
    return ""


def gradients(specimen: Specimen) -> str:
    """Every trainable tensor gets a gradient, but for those declared; no frozen one does."""
    model = specimen.build()
    frozen = list(frozen_parameters(model))
    specimen.step(model)
    for name, parameter in frozen:
        if parameter.grad is not None:
            return f"frozen {name} got a gradient"
    ours = {n: p.grad for n, p in model.named_parameters() if p.requires_grad and not n.startswith("head.")}
    lacking = [name for name, gradient in ours.items() if gradient is None]
    if lacking and len(lacking) == len(ours):
        return f"none of {len(ours)} tensors gets a gradient: the change is detached or built without gradients"
    declared = tuple(f".{ending}" for ending in model.method.may_be_unused)
    wrong = [name for name in lacking if not f".{name}".endswith(declared)]
    return f"{wrong[0]} gets no gradient: use it, or declare it in may_be_unused" if wrong else ""


def samples_apart(specimen: Specimen) -> str:
    """The output of a sample depends on no other one, nor on its place in the batch."""
    model = specimen.shaken()
    together = maps(model, specimen.images_BCHW)
    order = torch.arange(BATCH).roll(1)
    moved = difference([m[order] for m in together], maps(model, specimen.images_BCHW[order]))
    if moved > SAME:
        return f"another order of the batch changes a sample's features by {moved:.1e}"
    alone = [torch.cat(of) for of in zip(*(maps(model, x[None]) for x in specimen.images_BCHW), strict=True)]
    moved = difference(together, alone)
    if moved > SAME:
        return f"features of a sample alone and in a batch differ by {moved:.1e}: samples are mixed"
    images = specimen.images_BCHW.clone().requires_grad_()
    # by gradients, because dropout would hide it
    torch.stack([m[0].pow(3).mean() for m in model.train()(images)[0]]).sum().backward()
    mixed = images.grad is not None and images.grad[1:].any()
    return "in training, features of a sample depend on others of its batch: samples are mixed" if mixed else ""


def saves(specimen: Specimen) -> str:
    """What training made, saved and loaded into a model from another seed, gives the same output."""
    model, other = specimen.shaken(), specimen.shaken(seed=1)
    if specimen.trial.protocol.encoder_init == "random":
        ours = dict(frozen_parameters(model))  # a random backbone follows the seed, and nobody saves it
        for name, parameter in frozen_parameters(other):
            parameter.data.copy_(ours[name])
    stray = unregistered(model, specimen.update(model).total)
    if stray:
        return f"a tensor of shape {stray[0]} gets gradients, but is not registered: it is neither trained nor saved"
    other.load_trained(model.trained_state())
    before, after = model.method.queries(), other.method.queries()
    if before and after and not torch.equal(before.position_QC, after.position_QC):
        return "linked queries are lost in saving and loading"
    moved = difference(maps(model, specimen.images_BCHW), maps(other, specimen.images_BCHW))
    if moved > SAME:
        return f"saving and loading changes the features by {moved:.1e}: make every tensor a parameter or a buffer"
    return ""


def counts(specimen: Specimen) -> str:
    """The number of adapter parameters is the declared one, here and at the paper's sizes."""
    for scale in (specimen.trial.scale, SCALES["paper"]):
        found = specimen.count(scale)
        if found.declared is not None and found.adapter != found.declared:
            return f"{found.adapter:,} adapter parameters at scale {scale.name}, {found.declared:,} by expected_count"
    return ""


def bf16(specimen: Specimen) -> str:
    """A training step under bf16 autocast, the frozen matrices held in bf16, is finite."""
    model = specimen.build(precision="bf16")
    losses = specimen.step(model)
    if not torch.isfinite(losses.total):
        return f"the loss is {float(losses.total.detach())} under bf16 autocast"
    bad = [name for name, p in adapter_parameters(model) if p.grad is not None and not torch.isfinite(p.grad).all()]
    return f"the gradient of {bad[0]} is not finite under bf16 autocast" if bad else ""


def repeats(specimen: Specimen) -> str:
    """The same seed gives the same model, the same steps and the same output, bit for bit."""
    first, second = specimen.build(), specimen.build()
    for when in ("at the start", "after training"):
        for model in (first, second) if when == "after training" else ():
            specimen.update(model)
        pairs = zip(first.trained_state().items(), second.trained_state().values(), strict=True)
        differing = [name for (name, a), b in pairs if not torch.equal(a, b)]
        if differing:
            return f"{differing[0]} differs {when} between two models from one seed: random numbers of its own"
        outputs = [maps(model, specimen.images_BCHW) for model in (first, first, second)]
        if any(difference(outputs[0], others) for others in outputs[1:]):
            return f"the output for the same images differs {when}: random numbers in evaluation, or of its own"
    return ""


CHECKS: dict[str, Callable[[Specimen], str]] = {
    "runs": runs,
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
    """What is wrong with a trial's method on its backbone, by check; `on_check` is called after each."""
    torch.set_num_threads(1)
    specimen = Specimen(trial)
    found = {}
    for name, check in CHECKS.items():
        try:
            found[name] = check(specimen)
        except Exception as error:  # a method may raise anything, and the other checks go on
            found[name] = told(error, trial)
        if name != "runs" and found[name] and found[name] == found["runs"]:
            found[name] = "not shown, because the method does not run"
        on_check()
    return found


def told(error: Exception, trial: Trial) -> str:
    """An error in words, with the line of the method's file that led to it."""
    return f"{type(error).__name__}: {error}" + place(error, trial.method.target.rpartition(":")[0])
