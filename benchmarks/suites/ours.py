"""Suites beyond the paper: what its tables leave open. At the mini scale some are smaller, which their titles say."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from benchmarks.layouts import Column, Grid, Layout, Place, Row
from benchmarks.layouts_paper import BACKBONES, METHODS, MSI
from benchmarks.suites.base import Cell, Suite, cells_of

COMPARED = ("frozen", "set", "fada", "rein", "depthforge", "spectralmoe")
LINKING = ("rein", "set", "fada", "depthforge", "spectralmoe")
"""The methods that may give the head linked queries."""
RELEASED = {"preset": "released"}
BRIEF = {"steps": 100, "batch_size": 4, "evaluations": 2}
"""Of the largest suites at the mini scale: half the steps of half the tiles."""
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)

SMOKE = Suite(
    name="smoke",
    title="does everything run? 100 steps and one seed: not a comparison",
    cells=tuple(
        Cell(task="fbp_cs", backbone="dinov3", method=name) for name in ("frozen", "lora", "rein", "spectralmoe")
    ),
    seeds=1,
    protocol={"steps": 100, "evaluations": 2},
)

_EVERY: tuple[tuple[str, Mapping[str, object]], ...] = (("*", {}), ("spectralmoe", RELEASED))
FAIR = Suite(
    name="fair",
    title="every method on every backbone and task, like for like; mini: on fbp_cs or on dinov3, 100 small steps",
    cells=tuple(
        Cell(task=task, backbone=backbone, method=method, options=options, at=scale)
        for task, backbone, scale in (("*", "dinov3", "mini"), ("fbp_cs", "*", "mini"), ("*", "*", "paper"))
        for method, options in _EVERY
    ),
    seeds=3,
    mini=BRIEF,
    layouts=(Grid(name="fair", title="every method on every backbone and task, like for like"),),
)


def _rows(methods: tuple[str, ...], **groups: Place) -> tuple[Row, ...]:
    """Methods in groups, which say the rest."""
    return tuple(
        Row(group=group, label=METHODS[name], place=place.beside(Place(method=name)), newcomers=True)
        for group, place in groups.items()
        for name in methods
    )


_FIDELITY = Layout(
    name="fidelity",
    title="SpectralMoE by its equations and by its public code",
    rows=tuple(
        Row(group=BACKBONES[backbone], label=label, place=Place(backbone=backbone, method=method, options=options))
        for backbone in ("dinov3", "dofa")
        for label, method, options in (
            ("Freeze", "frozen", {}),
            ("SpectralMoE, paper", "spectralmoe", {}),
            ("SpectralMoE, released", "spectralmoe", RELEASED),
        )
    ),
    columns=(
        Column(label="Params (M)", metric="parameters"),
        *(Column(label=title, place=Place(task=task)) for task, title in MSI.items()),
        Column(label="Avg.", average=True),
    ),
)

_LINKED, _PLAIN = ({"queries": "linked"}, {"queries": "plain"})
_QUERIES = Layout(
    name="queries",
    title="what linked queries do for the head: methods with linked and with plain ones, on DINOv3",
    rows=_rows(LINKING, **{"": Place(backbone="dinov3")}),
    columns=tuple(
        Column(group=title, label=label, place=Place(task=task, protocol=queries), minus=minus)
        for task, title in MSI.items()
        for label, queries, minus in (("linked", _LINKED, ""), ("plain", _PLAIN, ""), ("Δ", _LINKED, "plain"))
    ),
)

_SEVERITY = Layout(
    name="severity",
    title="dose and response: target mIoU over the severity of the shift, across sensors on DINOv3",
    rows=_rows(COMPARED, **{"": Place(task="fbp_cs", backbone="dinov3")}),
    columns=tuple(Column(label=f"{severity:g}", place=Place(severity=severity)) for severity in SEVERITIES),
)

_SELECTION = Layout(
    name="selection",
    title="what choosing the checkpoint on the target is worth, on DINOv3",
    rows=_rows(COMPARED, **{title: Place(task=task, backbone="dinov3") for task, title in MSI.items()}),
    columns=(
        Column(label="Last", selection="last"),
        Column(label="Source val.", selection="source_val"),
        Column(label="Oracle", selection="oracle"),
        Column(label="Gap", metric="gap", selection="source_val"),
    ),
)


def _suite(layout: Layout, note: str = "", mini: Mapping[str, object] = MappingProxyType({})) -> Suite:
    cells, title = cells_of([layout]), layout.title + note
    return Suite(name=layout.name, title=title, cells=cells, seeds=3, mini=mini, layouts=(layout,))


COST = Suite(
    name="cost",
    title="accuracy against parameters, time and memory, across sensors on DINOv3",
    cells=tuple(Cell(task="fbp_cs", backbone="dinov3", method=method, options=options) for method, options in _EVERY),
    seeds=3,
    layouts=(
        Grid(
            name="cost",
            title="accuracy against cost",
            metrics=("miou", "parameters", "seconds", "step_ms", "memory"),
            average=False,
        ),
    ),
)

CONTROLS = Suite(
    name="controls",
    title="does the scale mean anything? pretrained against random encoder, true against shuffled depth",
    cells=tuple(
        Cell(task="fbp_cs", backbone="dinov3", method=method, protocol=protocol)
        for method, control in (
            ("frozen", {"encoder_init": "random"}),
            ("spectralmoe", {"depth": "shuffled"}),
            ("depth_add", {"depth": "shuffled"}),
        )
        for protocol in ({}, control)
    ),
    seeds=3,
)

OURS = (
    FAIR,
    _suite(_FIDELITY, "; mini: 100 small steps", BRIEF),
    _suite(_QUERIES, "; mini: 100 small steps", BRIEF),
    _suite(_SEVERITY, "; embedded scenes only"),
    _suite(_SELECTION),
    COST,
    CONTROLS,
)
