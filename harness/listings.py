"""What `python run.py list` shows: tasks, backbones, methods, suites. Free of torch."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.suites import SUITES
from benchmarks.tasks import TASKS
from harness.lookup import find_method
from harness.zoo import BACKBONES
from methods import METHODS


def _method_rows() -> list[dict[str, object]]:
    classes = {name: find_method(name).options_class for name in METHODS}
    return [
        {
            "name": name,
            "title": options.title,
            "depth": "yes" if options.make({}).needs_depth else "no",
            "presets (port)": ", ".join(f"{preset} ({port})" for preset, port in options.ports.items()),
            "paper": options.paper,
        }
        for name, options in classes.items()
    ]


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
    "backbones": lambda: [
        {
            "name": b.name,
            "title": b.title,
            "made by": b.entry,
            "at the paper's scale": b.builds["paper"].name,
            "pretrained on": ",".join(x.name for x in b.bands),
        }
        for b in BACKBONES.values()
    ],
    "methods": _method_rows,
    "suites": lambda: [{"name": s.name, "seeds": s.seeds, "what": s.title} for s in SUITES.values()],
}
