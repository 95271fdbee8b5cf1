"""What the user sees of a doctor's visit: tables and advice, or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.markup import escape

from harness.advice import GIB, Advice
from harness.machine import Machine, Package
from harness.screen import console, show_listing
from harness.supplies import SHOWN, Data, Outlook, Weights

NAMED = ("torch", "torchvision", "timm", "transformers", "onedl-mmsegmentation", "ray", "mlflow")
"""Packages that are shown even where nothing is wrong with them."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that was looked at, and what to say of it."""

    machine: Machine
    weights: Sequence[Weights]
    data: Sequence[Data]
    suites: Sequence[Outlook]
    advice: Sequence[Advice]


def show(found: Findings, *, as_json: bool) -> None:
    """Print the findings, advice last."""
    broken = any(advice.broken for advice in found.advice)
    if as_json:
        console.print_json(data={"broken": broken, **asdict(found)})
        return
    _show_machine(found.machine)
    _show_packages(found.machine.packages)
    show_listing("weights", _weight_rows(found.weights))
    if all(data.state == "no data root" for data in found.data):
        _say("[italic]data[/italic]: none looked for, without --data-root")
    else:
        show_listing("data", [_data_row(data) for data in found.data])
    title = "trials that can run now: at scale mini on rendered scenes, at scale paper on files, and what these lack"
    show_listing(title, _suite_rows(found.suites))
    _show_advice(found.advice)
    if broken:
        _say("[red]broken:[/red] nothing can run before what is marked so is mended")


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)


def _show_machine(machine: Machine) -> None:
    torch = machine.torch
    _say(f"[bold]machine[/bold]: Python {machine.python.installed}, {machine.system}, {machine.cores} core(s)")
    _say(f"memory: {machine.memory_free / GIB:.1f} GiB free of {machine.memory / GIB:.1f}")
    for disk in machine.disks:
        free = "unknown" if disk.free_bytes is None else f"{disk.free_bytes / GIB:.1f} GiB"
        _say(f"disk at the {disk.what} folder {escape(disk.path)}: {free} free")
    build = f"built for CUDA {torch.cuda}" if torch.cuda else "built without CUDA"
    _say(f"torch: {torch.version}, {build}, can use {len(torch.devices)} GPU(s)" if torch.version else "torch: broken")
    for gpu in machine.gpus:
        driver = f", driver {gpu.driver}" if gpu.driver else ""
        _say(f"GPU: {escape(gpu.name)}, {gpu.free_mb / 1024:.1f} GiB free of {gpu.memory_mb / 1024:.1f}{driver}")
    if not machine.gpus:
        _say("GPU: none")


def _show_packages(packages: Sequence[Package]) -> None:
    shown = [package for package in packages if package.name in NAMED or not package.fits]
    rows = [
        {
            "package": package.name,
            "installed": package.installed or "-",
            "needed": package.bounds,
            "": "ok" if package.fits else "missing" if package.installed is None else "outside",
        }
        for package in shown
    ]
    fine = len(packages) - len(shown)
    show_listing(f"packages ({fine} more are within their bounds)", rows)


def _weight_rows(weights: Iterable[Weights]) -> list[Mapping[str, object]]:
    by_backbone: dict[str, dict[str, Weights]] = {}
    for found in weights:
        by_backbone.setdefault(found.backbone, {})[found.build] = found
    return [
        {"backbone": name, **{size: f"{sizes[size].name} {_here(sizes[size])}" for size in SHOWN}}
        for name, sizes in by_backbone.items()
    ]


def _here(found: Weights) -> str:
    return "here" if found.here else "MISSING"


def _data_row(data: Data) -> Mapping[str, object]:
    outcomes = data.outcomes or {}
    audit = "; ".join(f"{name} {outcome}" for name, outcome in outcomes.items()) or data.audit
    made = " (prepared)" if data.prepared else ""
    return {
        "task": data.task,
        "files": data.state + made,
        "tiles": "" if data.tiles is None else f"{data.tiles:,}",
        "read by runs": ("at " + ", ".join(data.checked) if data.checked else "no") if data.state == "here" else "",
        "audit": audit,
    }


def _suite_rows(suites: Iterable[Outlook]) -> list[Mapping[str, object]]:
    by_suite: dict[str, dict[str, Outlook]] = {}
    for outlook in suites:
        by_suite.setdefault(outlook.suite, {})[outlook.scale] = outlook
    return [
        {
            "suite": name,
            "mini": _mini(scales["mini"]),
            "paper": _runnable(scales["paper"]),
            **{f"lack {lack}": number or "" for lack, number in scales["paper"].lacking.items()},
        }
        for name, scales in by_suite.items()
    ]


def _runnable(outlook: Outlook) -> str:
    return f"{outlook.runnable} of {outlook.trials}" if outlook.trials else "rendered scenes alone"


def _mini(outlook: Outlook) -> str:
    lacking = ", ".join(f"{number} lack {lack}" for lack, number in outlook.lacking.items() if number)
    return _runnable(outlook) + (f" ({lacking})" if lacking else "")


def _show_advice(advice: Sequence[Advice]) -> None:
    if advice:
        _say("\n[bold]advice[/bold]")
    for one in advice:
        mark = "[red]broken:[/red] " if one.broken else ""
        _say(f"{mark}{escape(one.what)}\n  {escape(one.remedy)}")
