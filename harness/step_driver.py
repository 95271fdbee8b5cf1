"""The command `bench step`: a training step of a trial, measured without its data."""

from __future__ import annotations

from harness.bench_setup import StepSetup
from harness.foresight import lone_trial
from harness.progress import counting
from harness.step_screen import show
from harness.trial import Trial
from harness.weight_store import missing


def bench_step(setup: StepSetup, *, as_json: bool) -> None:
    """Measure and show a training step.

    Args:
        setup: which step, and how.
        as_json: print JSON, which `plan --measured` reads, instead of the table.

    Raises:
        ValueError: a name, option or value is wrong, weights or the device are not there, or the step does not run.
    """
    from harness.bench_step import where  # torch

    settings = setup.all_settings(where(setup))
    trial = lone_trial(setup.scale, setup.task, setup.backbone, setup.method, settings)
    if not setup.random_weights:
        _refuse_missing_weights(trial)
    from harness.bench_training import WARM_UPS, facts, measure

    told = facts(setup)
    with counting("steps", WARM_UPS + setup.steps) as advance:
        cost = measure(setup, trial, advance)
    show(cost, told, as_json=as_json)


def _refuse_missing_weights(trial: Trial) -> None:
    for build in trial.missing_weights.values():
        raise ValueError(f"{missing(build.name, build.sources)}; a step can be measured without them: --random-weights")
