"""What is here to run trials with: weights by backbone, data by task, and what each suite makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.catalogue import TASKS
from benchmarks.prepared.reader import PreparedReader
from benchmarks.suites import SUITES
from benchmarks.tasks import AbsentData, DataSource, Task
from harness import zoo
from harness.audit_status import audit_state
from harness.folders import scale_folder
from harness.foresight import foresee
from harness.lookup import find_scale
from harness.plan import Request
from harness.preflight import CHECKED, read_stamps
from harness.scales import Scale
from harness.weight_store import find_file
from harness.zoo import BACKBONES, DEPTH_ENCODER, Build

State = Literal["here", "defective", "missing", "no data root"]
Lack = Literal["weights", "data", "GPU"]
SHOWN = ("mini", "paper")
"""The scales that are looked at."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Whether a backbone's weights are here at a size of encoders; `says` is why nobody can tell, or empty."""

    backbone: str
    build: str
    name: str
    weights: str
    here: bool
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class Data:
    """How the files of a task stand.

    Args:
        task: its name.
        state: in a word.
        says: what is wrong, or empty.
        prepared: by `data prepare`, with a manifest.
        tiles: of all domains; None if they are not here.
        checked: scales at which a run has read every file without a fault.
        audit: how its audit stands, in the words of records.
        outcomes: of that audit, by the set compared with the source.
    """

    task: str
    state: State
    says: str = ""
    prepared: bool = False
    tiles: int | None = None
    checked: tuple[str, ...] = ()
    audit: str = ""
    outcomes: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """How many trials of a suite can run now at a scale, and how many lack what; a trial may lack several things."""

    suite: str
    scale: str
    trials: int
    runnable: int
    lacking: Mapping[Lack, int]


def look_for_weights() -> list[Weights]:
    """Of every backbone and the depth encoder, at both sizes."""
    encoders = (*BACKBONES.values(), DEPTH_ENCODER)
    return [_weights(spec.name, size, build) for spec in encoders for size, build in spec.builds.items()]


def _weights(backbone: str, size: str, build: Build) -> Weights:
    here, says = False, ""
    try:
        here = bool(find_file(build.sources)) if build.sources else (zoo.WEIGHTS / build.weights).is_file()
    except OSError as error:
        says = str(error)
    return Weights(backbone=backbone, build=size, name=build.name, weights=build.weights, here=here, says=says)


def look_for_data(root: Path | None, results: Path) -> list[Data]:
    """Of every task that has a reader for files.

    Args:
        root: the data root, or None.
        results: folder of all scales, where runs remember the files they have read.
    """
    stamps = {scale: read_stamps(scale_folder(results, scale) / CHECKED) for scale in SHOWN}
    return [_data(task, task.files, root, stamps) for task in TASKS.values() if task.files]


def _data(task: Task, source: DataSource, root: Path | None, stamps: Mapping[str, Set[str]]) -> Data:
    if root is None:
        return Data(task=task.name, state="no data root")
    try:
        reader = source.open(root)
        tiles = sum(len(reader.tiles(domain)) for domain in (source.source, *source.targets))
    except AbsentData as absent:
        return Data(task=task.name, state="missing", says=str(absent))
    except ValueError as defect:
        return Data(task=task.name, state="defective", says=str(defect))
    audit = audit_state(task.name, reader, root)
    return Data(
        task=task.name,
        state="here",
        prepared=isinstance(reader, PreparedReader),
        tiles=tiles,
        checked=tuple(scale for scale, seen in stamps.items() if _passed(seen, reader.fingerprint)),
        audit=audit["state"],
        outcomes=audit.get("outcomes"),
    )


def _passed(stamps: Set[str], fingerprint: str) -> bool:
    return any(stamp.partition("/")[0] == fingerprint for stamp in stamps)


def outlooks(root: Path | None, weights: Iterable[Weights], gpus: int) -> list[Outlook]:
    """What every suite could run now, at the mini scale on rendered scenes and at the paper's on files.

    Args:
        root: the data root, or None.
        weights: from `look_for_weights`.
        gpus: how many can be used.

    Raises:
        ValueError: a plug-in has the name of a method of ours.
    """
    gone = {(found.backbone, found.build) for found in weights if not found.here}
    return [_outlook(suite, find_scale(scale), root, gone, gpus) for suite in SUITES for scale in SHOWN]


def _outlook(suite: str, scale: Scale, root: Path | None, gone: Set[tuple[str, str]], gpus: int) -> Outlook:
    request = Request(suite=suite, scale=scale.name, data_root=None if scale.scenes else root)
    lacking: dict[Lack, int] = {"weights": 0, "data": 0, "GPU": 0}
    trials = runnable = 0
    for prospect in foresee(request):
        lacks: dict[Lack, bool] = {
            "weights": any((encoder.name, scale.build) in gone for encoder in prospect.encoders()),
            "data": bool(prospect.lack),
            "GPU": bool(scale.gpus_per_trial) and not gpus,
        }
        trials += prospect.count
        runnable += 0 if any(lacks.values()) else prospect.count
        for lack, it_does in lacks.items():
            lacking[lack] += prospect.count if it_does else 0
    return Outlook(suite=suite, scale=scale.name, trials=trials, runnable=runnable, lacking=lacking)
