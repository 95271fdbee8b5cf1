"""Before any trial trains: the plan is shown, and the data of what is pending are looked at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.tasks import Normalised
from harness import screen
from harness.audit_status import renew
from harness.plan import Plan
from harness.progress import counting
from harness.records import RecordStore, replace_file
from harness.relevant import check_released_jitter
from harness.split import split_tiles
from harness.status import Status
from harness.trial import Trial
from harness.weight_store import missing

CHECKED = "checked.json"
"""The file of a scale's folder that remembers the data files that passed."""


def checked(plan: Plan, folder: Path, store: RecordStore) -> Plan:
    """Show the plan, check the data files of its pending trials, and bring the audits of finished ones up to date.

    Args:
        plan: what is to run.
        folder: the scale's, which remembers the files that passed.
        store: the records.

    Returns:
        The plan, in which the trials of missing weights and of defective data are skipped.

    Raises:
        ValueError: no trial is left, or tiles cannot be distorted as asked.
    """
    screen.show_plan(plan)
    plan = _check_weights(plan)
    plan = _check_files(plan, folder / CHECKED)
    _check_distortion(plan)
    renew([planned.trial for planned in plan.trials if planned.status is Status.CACHED], store)
    return plan


def _check_weights(plan: Plan) -> Plan:
    """Skip the pending trials whose published weights are not here: nothing is downloaded unasked.

    Raises:
        ValueError: no trial is left.
    """
    return _skipping(
        plan,
        lambda trial: {build.name: missing(build.name, build.sources) for build in trial.missing_weights.values()},
    )


def _skipping(plan: Plan, defects: Callable[[Trial], Mapping[str, str]]) -> Plan:
    checked = plan.skip(defects)
    screen.show_skipped({name: why for name, why in checked.skipped.items() if name not in plan.skipped})
    return checked


def _check_files(plan: Plan, remembered: Path) -> Plan:
    """Read every file the pending trials use once, before any of them trains; what passed is not read again.

    Returns:
        The plan, in which the trials of defective data are skipped.

    Raises:
        ValueError: no trial is left.
    """
    passed = read_stamps(remembered)
    defects: dict[str, str] = {}
    files = [trial for trial in plan.pending if trial.data.kind == "files"]
    for trial in {(trial.data_fingerprint, trial.protocol.max_tiles): trial for trial in files}.values():
        stamp = f"{trial.data_fingerprint}/{trial.protocol.max_tiles}"
        if stamp in passed or trial.data_fingerprint in defects:
            continue
        try:
            reader = trial.open_reader()
            if isinstance(reader, Normalised):
                _ = reader.normalisation  # stored statistics may be of other data
            split = split_tiles(reader, trial.data.source, trial.data.targets, trial.protocol.max_tiles)
            with counting("checking data files", len(split.tiles)) as advance:
                reader.check(split.tiles, advance)
        except ValueError as defect:
            defects[trial.data_fingerprint] = str(defect)
            continue
        passed.add(stamp)
        replace_file(remembered, json.dumps(sorted(passed)).encode())
    return _skipping(
        plan,
        lambda trial: {trial.task.name: why} if (why := defects.get(trial.data_fingerprint)) else {},
    )


def _check_distortion(plan: Plan) -> None:
    """Look at one tile of each data set whose colours pending trials distort as released, before any of them trains.

    Raises:
        ValueError: its tiles are no bytes.
    """
    distorted = {t.data_fingerprint: t for t in plan.pending if t.protocol.photometric == "released"}
    for trial in distorted.values():
        reader = trial.open_reader()
        first = reader.read(reader.tiles(trial.data.source)[0])
        check_released_jitter(first.image.dtype, f"the tiles of {trial.task.name}")


def read_stamps(path: Path) -> set[str]:
    """What passed, as `fingerprint/max_tiles`, by a scale's `checked.json`; empty if there is none."""
    try:
        return set(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return set()  # nothing is lost: the files are checked again
