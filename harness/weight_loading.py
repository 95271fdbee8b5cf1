"""Published weights into a model: every tensor accounted for, or nothing is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from harness.checkpoints import read_checkpoint
from harness.weight_formats import Converted, convert
from harness.weight_sources import Source
from harness.weight_store import WeightFile, find_file, missing, remedy

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of the tensors of a file and of a model.

    Args:
        file: the file.
        sha256: its digest.
        matched: tensors of the model that come from it.
        missing: tensors of the model that it lacks, all of them known to be used by no feature.
        unexpected: tensors it has and the model has not, known likewise.
        resized: those whose shape was changed, with both shapes.
        beside: how many tensors of the file belong to other parts of the published model.
    """

    file: WeightFile
    sha256: str
    matched: Sequence[str]
    missing: Sequence[str] = ()
    unexpected: Sequence[str] = ()
    resized: Mapping[str, str] = field(default_factory=dict)
    beside: int = 0

    def __str__(self) -> str:
        """Everything in a line."""
        resized = "; ".join(f"{name} {shapes}" for name, shapes in self.resized.items()) or "none"
        return (
            f"{self.file.path} (sha256 {self.sha256[:16]}): {len(self.matched)} tensors matched; missing: "
            f"{', '.join(self.missing) or 'none'}; unexpected: {', '.join(self.unexpected) or 'none'}; resized: "
            f"{resized}; of other parts: {self.beside}"
        )


def load_published(model: nn.Module, name: str, sources: Sequence[Source], folder: Path | None = None) -> LoadReport:
    """Load a published file into a model, after its digest was checked.

    Args:
        model: with its own names and sizes.
        name: of the backbone, for messages.
        sources: files that hold its weights; the first that is here is taken.
        folder: the weights folder, if not the user's own.

    Raises:
        ValueError: none is here; it is not what it was at first use; it is incomplete or no safe format; or a tensor
            is missing, unexpected or of another shape, and the source does not say that no feature depends on it.
    """
    file = find_file(sources, folder)
    if file is None:
        raise ValueError(missing(name, sources, folder))
    first = not file.recorded()
    sha256 = file.check()
    try:
        tensors = read_checkpoint(file.path).tensors
        converted = convert(tensors, model, file.source.published_as)
        report = _fit(model, file, sha256, converted)
    except (ValueError, RuntimeError, LookupError) as error:  # timm's functions raise the latter two on other models
        if first:  # what was the right file once still is
            file.forget()
        raise ValueError(f"weights of {name}: {file.path} was not loaded, {_told(error)}; {remedy(file)}") from error
    absent = {name: tensor for name, tensor in model.state_dict().items() if name in report.missing}
    state = {name: converted.state[name] for name in report.matched}
    model.load_state_dict({**state, **absent}, strict=True)
    log.info("weights of %s: %s", name, report)
    return report


def _fit(model: nn.Module, file: WeightFile, sha256: str, converted: Converted) -> LoadReport:
    """The report of a state dict that fits.

    Raises:
        ValueError: it does not.
    """
    own = cast(Mapping[str, Tensor], model.state_dict())
    state = converted.state
    missing_ = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    matched = [name for name in own if name in state]
    shapes = [
        f"{name} ({tuple(state[name].shape)}, the model's is {tuple(own[name].shape)})"
        for name in matched
        if state[name].shape != own[name].shape
    ]
    wrong = {
        "missing": [name for name in missing_ if name not in file.source.absent],
        "unexpected": [name for name in unexpected if name not in file.source.unused],
        "of another shape": shapes,
    }
    if any(wrong.values()):
        told = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in wrong.items() if names)
        raise ValueError(f"its tensors are not those of the model ({told})")
    return LoadReport(
        file=file,
        sha256=sha256,
        matched=matched,
        missing=missing_,
        unexpected=unexpected,
        resized=converted.resized,
        beside=len(converted.beside),
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _told(error: Exception) -> str:
    """An error in one line."""
    return str(error).partition("\n")[0] or type(error).__name__
