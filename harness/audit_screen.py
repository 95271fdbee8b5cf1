"""What the user sees of an audit: outcomes, findings with examples, and what could not be checked."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from benchmarks.prepared.audit_report import AuditReport, Check, Example, Finding, Outcome, PairAudit
from harness.counts import counted
from harness.screen import console, show_listing

_EXAMPLES = 3
_LEAST_KM2 = 0.1  # less is shown in square metres
_COLOURS: dict[Outcome, str] = {
    "verified disjoint": "green",
    "disjoint by construction": "green",
    "cannot be verified": "yellow",
    "overlap found": "red",
}
_UNITS: dict[Check, str] = {"near duplicate": "bits", "border": "bits", "overlapping footprint": "km2"}


def show_audit(report: AuditReport, path: Path) -> None:
    """The report, and where it was stored."""
    show_listing(f"{report.task}: does the target leak?", [_row(pair) for pair in report.pairs])
    for pair in report.pairs:
        console.print(
            f"{pair.first} - {pair.second}: [{_COLOURS[pair.outcome]}]{pair.outcome}[/] ({escape(pair.why)})",
            soft_wrap=True,
            highlight=False,
        )
        for finding in pair.findings:
            _show_finding(finding)
        for text in pair.unchecked:
            console.print(f"  not checked: {escape(text)}", soft_wrap=True, highlight=False)
    leaks = report.leaks
    console.print(
        f"[red]{counted(leaks, 'kind of leak', 'kinds of leaks')}[/red]" if leaks else "[green]no leak found[/green]"
    )
    console.print(f"stored in {path}; tables made from now on cite it", soft_wrap=True, highlight=False, markup=False)


def _row(pair: PairAudit) -> dict[str, object]:
    ground = pair.ground
    return {
        "sets": f"{pair.first} - {pair.second}",
        "tiles": " - ".join(map(str, pair.tiles)),
        "outcome": pair.outcome,
        "placed by": " - ".join("+".join(methods) for methods in ground.methods) if ground else "",
        "shared (share)": f"{shown_area(ground.shared_km2)} ({100 * ground.shared_fraction:.2g} %)" if ground else "",
        "nearest km": f"{ground.nearest_km:g}" if ground else "",
    }


def _show_finding(finding: Finding) -> None:
    word = "[red]leak[/red]" if finding.leak else "[yellow]warning[/yellow]"
    unit = _UNITS.get(finding.check, "")
    few = "; ".join(_example(example, unit) for example in finding.examples[:_EXAMPLES])
    console.print(
        f"  {word} {finding.check}: {counted(finding.pairs, 'pair')}, {counted(finding.tiles, 'tile')} "
        f"of the second set ({escape(finding.note)}): {escape(few)}",
        soft_wrap=True,
        highlight=False,
    )


def _example(example: Example, unit: str) -> str:
    if example.measure is None:
        measure = ""
    else:
        measure = f" ({shown_area(example.measure) if unit == 'km2' else f'{example.measure:g} {unit}'})"
    return f"{example.first} ~ {example.second}{measure}"


def shown_area(km2: float) -> str:
    """Square kilometres, or square metres where they are few."""
    return f"{km2:g} km2" if km2 >= _LEAST_KM2 or not km2 else f"{km2 * 1e6:.0f} m2"
