"""What a trial under way leaves behind, so that it goes on from its last evaluation point to the same numbers."""

from __future__ import annotations

import logging
import os
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from harness.trial import Trial

log = logging.getLogger(__name__)


@cache
def _code() -> str:
    """Of this program: what is not committed counts, too."""
    root = Path(__file__).parents[1]
    files = sorted(path for package in ("harness", "methods", "benchmarks") for path in (root / package).rglob("*.py"))
    return sha256(b"".join(sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0]


class Halfway:
    """The file of a trial under way: tensors and plain values, read without running anything.

    Args:
        path: the file; None to keep and find nothing.
        trial: the trial.
        device: what it trains on: on another, or by other code, it would not go on to the same numbers.
    """

    def __init__(self, path: Path | None, trial: Trial, device: torch.device) -> None:
        """Nothing is read yet."""
        self.path = path
        self.stamp = {"key": trial.key, "device": device.type, "torch": str(torch.__version__), "code": _code()}

    def save(self, **state: Any) -> None:
        """Write the state whole or not at all; where that cannot be, the trial goes on without."""
        if self.path is None:
            return
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            # straight to the disk: of a whole backbone in training it has gigabytes
            torch.save({"stamp": self.stamp, **state}, temporary)
            os.replace(temporary, self.path)
        except TimeoutError:  # the trial's own, which is an OSError, too
            raise
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter for a full disk or no folder
            log.warning("%s cannot be written (%s): if interrupted, its trial begins anew", self.path, _first(error))
        finally:
            temporary.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """What was saved, or None where there is nothing of use: then the trial begins anew, and says why."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            stamp = dict(state.pop("stamp"))
        except TimeoutError:
            raise
        except Exception as error:  # whatever lies there, the trial can begin anew
            log.warning("%s is damaged (%s): its trial begins anew", self.path, type(error).__name__)
            return None
        if stamp != self.stamp:
            other = next(name for name in self.stamp if stamp.get(name) != self.stamp[name])
            log.warning("%s was written with another %s: its trial begins anew", self.path, other)
            return None
        return state
