"""What `python run.py list` shows, free of torch; and plug-ins, whose facts cost its import."""

from __future__ import annotations

import logging
from collections.abc import Callable

from benchmarks.catalogue import TASKS
from benchmarks.suites import SUITES
from harness import plugins
from harness.estimate import guess
from harness.lookup import built_in, find_method
from harness.plan import Request, make_plan
from harness.screen import duration
from harness.trial import MethodRef
from harness.zoo import BACKBONES, RGB
from methods import METHODS

log = logging.getLogger(__name__)


def _method_rows() -> list[dict[str, object]]:
    """Ours with their facts; plug-ins by their metadata alone, because their facts cost the import of torch."""
    rows = [_facts(built_in(name)) for name in METHODS]
    wrong = plugins.defects()
    for name, offers in plugins.installed().items():
        if name in wrong:
            log.warning(wrong[name])
            continue
        (plugin,) = offers
        title = f"plug-in of {plugin.distribution}"
        rows.append({**dict.fromkeys(rows[0], ""), "name": name, "title": title, "paper": "see `list plugins`"})
    return rows


def _plugin_rows() -> list[dict[str, object]]:
    """Every plug-in that works, with its facts; imports them, and torch. A broken one is warned about."""
    rows = []
    for name, offers in plugins.installed().items():
        try:
            rows.append({**_facts(find_method(name)), "from": f"{offers[0].target} of {offers[0].distribution}"})
        except ValueError as error:
            log.warning(str(error))
    return rows


def _facts(method: MethodRef) -> dict[str, object]:
    options = method.options_class
    return {
        "name": method.name,
        "title": options.title,
        "depth": "yes" if options.make({}).needs_depth else "no",
        "presets (port)": ", ".join(f"{preset} ({port})" for preset, port in options.ports.items())
        + (f"; {len(options.variants)} variants (`list variants`)" if options.variants else ""),
        "paper": options.paper,
    }


def _variant_rows() -> list[dict[str, object]]:
    return [
        {
            "method": name,
            "variant": variant,
            "sets": ", ".join(f"{option}={value}" for option, value in values.items()),
        }
        for name in METHODS
        for variant, values in built_in(name).options_class.variants.items()
    ]


def _suite_rows() -> list[dict[str, object]]:
    """Suites with their size at the mini scale, and how long it may take where nothing has run yet."""
    rows: list[dict[str, object]] = []
    for suite in SUITES.values():
        trials = [planned.trial for planned in make_plan(Request(suite=suite.name), None).trials]
        seconds = sum(guess(trial) or 0 for trial in trials)
        rows.append(
            {
                "name": suite.name,
                "seeds": suite.seeds,
                "mini trials": len(trials),
                "one core": duration(seconds),
                "what": suite.title,
            }
        )
    return rows


def _backbone_rows() -> list[dict[str, object]]:
    """Ours, and how any other ViT of timm is named."""
    rows: list[dict[str, object]] = [
        {
            "name": spec.name,
            "title": spec.title,
            "made by": spec.entry,
            "at the paper's scale": spec.builds["paper"].name,
            "pretrained on": ",".join(band.name for band in spec.bands),
        }
        for spec in BACKBONES.values()
    ]
    timm = {"name": "timm:NAME", "title": "any ViT of timm", "made by": "NAME", "at the paper's scale": "timm:NAME.TAG"}
    return [*rows, {**timm, "pretrained on": ",".join(band.name for band in RGB)}]


LISTINGS: dict[str, Callable[[], list[dict[str, object]]]] = {
    "tasks": lambda: [
        {
            "name": task.name,
            "title": task.title,
            "bands": ",".join(band.name for band in task.bands),
            "classes": "; ".join(f"{len(s.classes)} ({s.kind})" for s in (task.embedded, task.files) if s),
        }
        for task in TASKS.values()
    ],
    "backbones": _backbone_rows,
    "methods": _method_rows,
    "plugins": _plugin_rows,
    "variants": _variant_rows,
    "suites": _suite_rows,
}
