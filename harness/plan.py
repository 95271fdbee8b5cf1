"""From a request to trials: cells expanded, duplicates dropped, cached ones marked, costs estimated. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.suites import Cell
from benchmarks.tasks import ABSENT, AS_IS, AbsentData, DataSource, Shift, Task
from harness.backbone_names import find_backbone, find_backbones
from harness.cells import Filled, Names, fill
from harness.estimate import Times, guess
from harness.lookup import built_in, find_methods, find_scale, find_tasks, parse_settings
from harness.records import RecordStore
from harness.relevant import relevant
from harness.scales import Protocol, Scale
from harness.status import Status
from harness.suite_files import find_suite
from harness.trial import MethodRef, Trial
from harness.zoo import BACKBONES, DEPTH_ENCODERS, Build
from methods import METHODS
from methods.options import Options


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for, in words.

    Args:
        suite: name of the suite, or path of a file with one.
        scale: name of the scale.
        tasks: keep these tasks (`all` for every one); empty for all. One the suite does not have takes part in it.
        backbones: keep these backbones; empty for all. One the suite does not have takes part in it.
        methods: keep these methods (`all` for every one); one the suite does not have takes part in it.
        seeds: number of seeds; 0 for the suite's own.
        settings: `method.option=value` and `protocol.field=value`.
        data_root: folder of real data sets, or None for embedded scenes.
        shift: how far the targets of embedded scenes lie from the source.
        recorded: the trials will leave records, so that a method must not carry the name of a built-in.
        gpu: without one the scale's own precision gives way to fp32.
    """

    suite: str
    scale: str = "mini"
    tasks: Sequence[str] = ()
    backbones: Sequence[str] = ()
    methods: Sequence[str] = ()
    seeds: int = 0
    settings: Sequence[str] = ()
    data_root: Path | None = None
    shift: Shift = AS_IS
    recorded: bool = True
    gpu: bool = True


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A trial with what is known before it runs: planned, cached or skipped, and seconds it may take (or None)."""

    trial: Trial
    status: Status
    estimate: float | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Trials in the order they will run, and what keeps others from running, with the reason.

    Args:
        request: what was asked for.
        trials: every trial, with its status.
        skipped: tasks without tiles and backbones without weights, and why.
        defective: those of them that the user must see to: tasks whose data are there but wrong, missing weights.
    """

    request: Request
    trials: Sequence[Planned]
    skipped: Mapping[str, str] = field(default_factory=dict)
    defective: frozenset[str] = frozenset()

    @property
    def pending(self) -> list[Trial]:
        """Trials without a done record."""
        return [planned.trial for planned in self.trials if planned.status is Status.PLANNED]

    @property
    def keys(self) -> frozenset[str]:
        """Keys of all trials."""
        return frozenset(planned.trial.key for planned in self.trials)

    @property
    def missing_weights(self) -> Mapping[str, Build]:
        """Builds that a pending trial needs and whose published weights are not here, by their names."""
        found = [build for trial in self.pending for build in trial.missing_weights.values()]
        return {build.name: build for build in found}

    def skip(self, defects: Callable[[Trial], Mapping[str, str]]) -> Plan:
        """The same plan without the pending trials that cannot run.

        Args:
            defects: what keeps a trial from running (a task, a backbone), and why; empty if it can run.

        Raises:
            ValueError: no trial is left.
        """
        found: dict[str, str] = {}
        trials = []
        for planned in self.trials:
            told = defects(planned.trial) if planned.status is Status.PLANNED else {}
            found |= told
            reason = "; ".join(told.values())
            trials.append(replace(planned, status=Status.SKIPPED, reason=reason) if told else planned)
        if all(planned.status is Status.SKIPPED for planned in trials):
            raise ValueError("; ".join(dict.fromkeys([*found.values(), *self.skipped.values()])))
        return replace(self, trials=trials, skipped={**self.skipped, **found}, defective=self.defective | set(found))

    def beside(self, records: RecordStore, *, fresh: bool = False) -> Plan:
        """The same plan with finished trials marked and times estimated.

        Args:
            records: finished trials.
            fresh: plan finished trials again; a new record takes the place of the old one only when it is whole.
        """
        known = list(records)
        done = set() if fresh else {record.key for record in known if record.status is Status.DONE}
        times = Times(known)
        marked = [
            Planned(
                trial=planned.trial,
                status=Status.CACHED if planned.trial.key in done else Status.PLANNED,
                estimate=times.estimate(planned.trial),
            )
            for planned in self.trials
        ]
        return replace(self, trials=marked)


def make_plan(request: Request, records: RecordStore | None) -> Plan:
    """Expand a request into a plan.

    Args:
        request: what was asked for.
        records: finished trials; None if there is no results folder yet.

    Raises:
        ValueError: a name, option or value is wrong, or nothing can run.
    """
    expansion = Expansion(request)
    trials: dict[str, Trial] = {}
    skipped: dict[str, str] = {}
    defective: set[str] = set()
    for cell, task, backbone, method in expansion.cells():
        try:
            source = expansion.supply(task, cell)
        except ValueError as defect:
            source = str(defect)
            if not isinstance(defect, AbsentData) or task.name in request.tasks:
                defective.add(task.name)
        if isinstance(source, str):
            skipped[task.name] = source
            continue
        for seed in range(expansion.seeds(cell)):
            trial = expansion.trial(cell, task, source, backbone, method, seed)
            trials.setdefault(trial.key, trial)
    expansion.refuse_unused_settings()
    if not trials:
        raise ValueError("; ".join(skipped.values()) or "nothing to run: the filters leave no trial of the suite")
    planned = [Planned(trial=trial, status=Status.PLANNED, estimate=guess(trial)) for trial in trials.values()]
    plan = Plan(request=request, trials=planned, skipped=skipped, defective=frozenset(defective))
    return plan if records is None else plan.beside(records)


class Expansion:
    """A request with its names looked up."""

    def __init__(self, request: Request) -> None:
        self.suite, chosen_methods = find_suite(request.suite)
        self.scale = find_scale(request.scale).shifted(request.shift, request.data_root).on(gpu=request.gpu)
        self.tasks = find_tasks(request.tasks or ["all"])
        self.given_tasks = list(self.tasks) if request.tasks else []
        others = [cell.backbone for cell in self.suite.cells if cell.backbone != "*"]
        self.backbones = find_backbones(request.backbones or [*BACKBONES, *others], self.scale.build)
        self.given_backbones = list(self.backbones) if request.backbones else []
        given = [found for name in request.methods for found in find_methods(name)]
        ours = {name: built_in(name) for name in METHODS}
        self.given_methods = _by_name(given, ours.values() if request.recorded else ())
        brought = _by_name(chosen_methods, ours.values() if request.recorded else ())
        self.known = {**ours, **brought, **self.given_methods}
        self.methods = self.given_methods or {**ours, **brought}
        self.contenders = self.given_methods or {n: m for n, m in self.methods.items() if not m.options_class.control}
        if request.seeds < 0:
            raise ValueError(f"--seeds {request.seeds}: give 1 or more")
        self._seeds = request.seeds
        self.data_root = request.data_root.resolve() if request.data_root else None
        self.settings = parse_settings(request.settings, {**self.known, "protocol": ""})
        self._used, self._shift = {"protocol"}, request.shift
        self._fingerprints: dict[tuple[str, float | None], str] = {}

    def cells(self) -> list[Filled]:
        """Every cell with its wildcards filled in and the filters applied."""
        names = Names(
            tasks=self.tasks,
            backbones=self.backbones,
            methods=self.methods,
            contenders=self.contenders,
            given_tasks=list(self.given_tasks),
            given_backbones=self.given_backbones,
            given_methods=list(self.given_methods),
        )
        return fill(self.suite, names, self.scale.build)

    def seeds(self, cell: Cell) -> int:
        """Number of seeds of a cell: what the user asked for, else the cell's own, else the suite's."""
        return self._seeds or cell.seeds or self.suite.seeds

    def scale_of(self, cell: Cell) -> Scale:
        """The scale with the targets as far from the source as the cell says, else as the user does."""
        if cell.severity is None:
            return self.scale
        return self.scale.shifted(replace(self._shift, severity=cell.severity), self.data_root)

    def supply(self, task: Task, cell: Cell) -> DataSource | str:
        """Where the task's tiles come from at this scale, or the reason why there are none."""
        root = self._root(task)
        if cell.severity is not None and (root or not self.scale.scenes):
            return f"suite {self.suite.name} shifts synthetic scenes: it has no trials on files"
        if root and self._shift != AS_IS:
            raise ValueError(
                f"--severity and --ingredients shift synthetic scenes, and {task.name} has none: drop them"
            )
        source = task.files if root else task.embedded if self.scale.scenes else None
        if source is None:
            needs = f"needs real data at scale {self.scale.name}: give --data-root DIR"
            return f"task {task.name} {'has no reader for files' if root else needs}"
        if (task.name, cell.severity) not in self._fingerprints:
            where = root or self.scale_of(cell).scenes
            assert where is not None, "embedded scenes are offered only where the scale has sizes for them"
            self._fingerprints[task.name, cell.severity] = source.open(where).fingerprint
        return source

    def _root(self, task: Task) -> Path | None:
        """Where the task's files lie: below the user's data root, else where the task itself says; None for scenes."""
        return self.data_root or (task.files.home if task.files else None)

    def recipe(
        self, cell: Cell, task: Task, source: DataSource, backbone: str, method: MethodRef
    ) -> tuple[Options, Protocol]:
        """The options and the protocol of a cell's trials. Raises `ValueError` where these do not fit the task."""
        options = method.options_class.make({**cell.options, **self.settings.get(method.name, {})})
        protocol = relevant(self.protocol(cell, task), task, source, options, find_backbone(backbone))
        # at the mini scale there is one depth encoder
        return options, protocol.change({"depth_model": "promptda"}) if self.scale.build == "mini" else protocol

    def trial(self, cell: Cell, task: Task, source: DataSource, backbone: str, method: MethodRef, seed: int) -> Trial:
        """One trial of a cell; one whose task has no supply here is only to be looked at."""
        self._used.add(method.name)
        options, protocol = self.recipe(cell, task, source, backbone, method)
        return Trial(
            task=task,
            data=source,
            data_root=self._root(task),
            data_fingerprint=self._fingerprints.get((task.name, cell.severity), ABSENT),
            backbone=self.backbones[backbone],
            depth_encoder=DEPTH_ENCODERS[protocol.depth_model] if options.needs_depth else None,
            method=method,
            options=options,
            protocol=protocol,
            scale=self.scale_of(cell),
            seed=seed,
        )

    def protocol(self, cell: Cell, task: Task | None = None) -> Protocol:
        """The protocol of a cell, whatever its method; without a task, of one that has no recipe of its own."""
        reduced = self.suite.mini if self.scale.build == "mini" else {}
        suite = {} if self.scale.fixed_length else {**self.suite.protocol, **reduced}
        default = self.scale.protocol_of(task) if task else self.scale.protocol
        return default.change({**suite, **cell.protocol, **self.settings.get("protocol", {})})

    def refuse_unused_settings(self) -> None:
        """An option for a method that takes no part would silently do nothing."""
        unused = set(self.settings) - self._used
        if unused:
            raise ValueError(
                f"--set {sorted(unused)[0]}.*: no trial of this plan uses that method; drop it or add --method"
            )


def _by_name(methods: Sequence[MethodRef], taken: Iterable[MethodRef]) -> dict[str, MethodRef]:
    """The methods by name; in tables one would stand in the row of another that has its name, given or `taken`."""
    found = {method.name: method for method in (*taken, *methods)}
    for method in (*taken, *methods):
        other = found[method.name]
        if other != method:
            raise ValueError(
                f"two methods are called {method.name!r} ({method.target} and {other.target}): give one another name "
                f"in its Options class"
            )
    return {method.name: method for method in methods}
