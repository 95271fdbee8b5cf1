"""What a trial under way leaves behind, so that it goes on from its last evaluation point to the same numbers."""

from __future__ import annotations

import io
import logging
import pickle
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from harness.records import replace_file, surroundings
from harness.trial import Trial

log = logging.getLogger(__name__)


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
        now = surroundings(datetime.now(UTC))
        self.stamp = {"key": trial.key, "device": device.type, "commit": now["commit"], "torch": now["torch"]}

    def save(self, **state: Any) -> None:
        """Write the state whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        if self.path:
            data = io.BytesIO()
            torch.save({"stamp": self.stamp, **state}, data)
            replace_file(self.path, data.getvalue())

    def load(self) -> dict[str, Any] | None:
        """What was saved, or None where there is nothing of use: then the trial begins anew, and says why."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            stamp = state.pop("stamp")
        except (
            OSError,
            RuntimeError,
            ValueError,
            KeyError,
            AttributeError,
            pickle.UnpicklingError,
            zipfile.BadZipFile,
        ):
            log.warning("%s is damaged: its trial begins anew", self.path)
            return None
        if stamp != self.stamp:
            other = next(name for name in self.stamp if stamp.get(name) != self.stamp[name])
            log.warning("%s was written with another %s: its trial begins anew", self.path, other)
            return None
        return state
