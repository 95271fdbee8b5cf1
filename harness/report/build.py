"""`python run.py report`: records gathered, sections made, one HTML page written."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from harness.records import RecordStore, replace_file, writable
from harness.report import background, boards, responses, results
from harness.report.findings import Findings, gather
from harness.report.gallery import hang, panels, routing
from harness.report.parts import Section
from harness.report.suites import suites

WARNINGS = {
    "mini": (
        "Rendered scenes and small encoders: this scale shows that the whole program runs and how controlled shifts "
        "act. Its numbers never stand beside published ones and say nothing about real sensors."
    ),
    "test": "A few steps on a few rendered tiles: these numbers mean nothing.",
}


def write_report(store: RecordStore, scale: str, out: Path) -> Path:
    """Write the page of a results folder.

    Args:
        store: its records.
        scale: the scale's name.
        out: the file; one that is there is replaced.

    Raises:
        ValueError: there are no records, or the file cannot be written.
    """
    found = gather(store, scale)
    page = render(found, sections(found)).encode()
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder: name a file in it, such as {out / 'report.html'}")
    with writable(out.parent):
        replace_file(out, page)
    return out


def sections(found: Findings) -> list[Section]:
    """The sections of the page, in order."""
    galleries = hang(found) if found.comparisons else {}
    return [
        boards.summary(found),
        boards.ranking(found),
        suites(found),
        results.tables(found),
        results.breakdown(found),
        responses.cost(found),
        responses.severity(found),
        panels(found, galleries),
        routing(found, galleries),
        responses.training(found),
        background.protocol(found),
        background.audit(found),
        background.missing(found),
    ]


def render(found: Findings, made: list[Section]) -> str:
    """The page as HTML; every word from a record is escaped, only our own style, script and drawings are not."""
    folder = files(__package__)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["prose"] = _prose
    template = environment.from_string((folder / "page.html.j2").read_text("utf-8"))
    return template.render(
        label=found.label,
        warning=WARNINGS.get(found.scale, ""),
        sections=made,
        trials=len(found.done),
        failed=len(found.failed),
        style=Markup((folder / "page.css").read_text("utf-8")),
        script=Markup((folder / "page.js").read_text("utf-8")),
    )


def _prose(words: str) -> Markup:
    """Words with what stands in backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(words))))
