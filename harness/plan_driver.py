"""The command `plan`: the trials of a suite, and where they are large what they cost in hours, disk and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness import screen
from harness.cost import Bill, Ledger
from harness.cost_screen import show_absent, show_costs
from harness.folders import existing_records
from harness.foresight import Prospect, foresee
from harness.lookup import find_scale
from harness.measured import load_step_times
from harness.plan import Plan, Request, make_plan
from harness.status import Status
from harness.weights_screen import show_missing


def show(request: Request, results: Path, measured: Sequence[Path]) -> None:
    """Print the plan; at scales that ask for GPUs, or with measurements, what it costs, also without the data.

    Args:
        request: what was asked for.
        results: folder of all scales, whose records mark trials as cached and tell times.
        measured: files of `bench step --json`.

    Raises:
        ValueError: a name, option or value is wrong, a file cannot be understood, or data are defective.
    """
    step_times = [step for path in measured for step in load_step_times(path)]
    store = existing_records(results, request.scale)
    if not (step_times or find_scale(request.scale).gpus_per_trial):
        made = make_plan(request, store)
        screen.show_plan(made)
        show_missing(made.missing_weights)
        screen.show_trials(made)
        return
    foreseen = foresee(request)
    absent = [prospect for prospect in foreseen if prospect.lack]
    ledger = Ledger(store or (), step_times)
    bills = [ledger.bill(prospect) for prospect in absent]
    if foreseen and all(prospect.absent for prospect in foreseen):
        show_absent(request, foreseen)
    else:
        plan = make_plan(request, store)
        mine = {trial.key: ledger.bill(Prospect(trial=trial, count=1)) for trial in plan.pending}
        priced = _priced(plan, mine)
        screen.show_plan(priced)
        show_missing(priced.missing_weights)
        screen.show_trials(priced)
        bills = [*mine.values(), *bills]
    show_costs(bills, ledger.unused)


def _priced(plan: Plan, bills: Mapping[str, Bill]) -> Plan:
    """The plan with the times that are known from measurements, too."""
    trials = [
        replace(planned, estimate=bills[planned.trial.key].seconds)
        if planned.status is Status.PLANNED and planned.estimate is None
        else planned
        for planned in plan.trials
    ]
    return replace(plan, trials=trials)
