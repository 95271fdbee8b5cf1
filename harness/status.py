"""One vocabulary for how a trial fares: scheduler, screen, records, tables and MLflow use these words alone."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """How a trial fares. Only `DONE` and `FAILED` are kept in records, and only `DONE` counts as cached."""

    PLANNED = "planned"
    CACHED = "cached"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"
