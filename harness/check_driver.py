"""The command `check` at a scale's sizes: one training step of methods on backbones, with random weights. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.catalogue import TASKS
from harness.apart import Died, call_apart
from harness.check_screen import StepFound, show_step, show_steps
from harness.foresight import foresee
from harness.lookup import find_scale, pack
from harness.plan import Request
from harness.progress import counting
from harness.trial import Trial

CROP = 128
"""Side of a crop in pixels, where the scale's is larger: the published depth and width in a 16th of the tokens."""

_KILLED = "its process was killed, most likely because the memory was not enough"


def check_steps(methods: Sequence[str], backbones: Sequence[str], settings: Sequence[str], scale: str) -> int:
    """Train one step of every method and preset on every backbone, each in a process of its own, and show the outcome.

    Args:
        methods: names.
        backbones: names; empty for all.
        settings: `method.option=value` and `protocol.field=value`, over 128 px, batch 1, fp32.
        scale: name of the scale.

    Returns:
        The exit code: 0 if all is as declared, else 1.

    Raises:
        ValueError: an unknown name, option or value.
    """
    plain = (f"protocol.crop={min(CROP, find_scale(scale).protocol.crop)}", "protocol.batch_size=1")
    request = Request(
        suite="fair",
        scale=scale,
        tasks=tuple(TASKS)[:1],
        methods=methods,
        backbones=backbones,
        seeds=1,
        settings=(*plain, "protocol.precision=fp32", *settings),
        recorded=False,
    )
    trials = [prospect.trial for prospect in foresee(request)]
    found = {}
    with counting("training steps", len(trials)) as advance:
        for trial in trials:
            place = (with_preset(trial.method.name, trial), trial.backbone_name)
            found[place] = _examine(trial)
            show_step(*place, found[place])
            advance()
    show_steps(found, trials[0])
    return int(any(step.wrong for step in found.values()))


def with_preset(name: str, trial: Trial) -> str:
    """A name in a table, with the preset of the trial's method where that is not the default."""
    preset = trial.options.preset
    return name if preset == type(trial.options).preset else f"{name} (preset={preset})"


def _examine(trial: Trial) -> StepFound:
    try:
        answer = call_apart("harness.step_check:check_packed_step", pack(trial))
    except Died:
        return StepFound(wrong=(_KILLED,))
    return StepFound(wrong=answer.value, seconds=answer.seconds, peak_mb=answer.peak_mb)
