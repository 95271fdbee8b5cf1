"""Evaluation points and what is kept of them: scores for people, areas per tile for the statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.tasks import Reader
from harness import metrics
from harness.pipeline import Statistics, evaluation_batches
from harness.segmentor import Segmentor
from harness.split import SOURCE_VAL, TARGET, Split

EVALUATION_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluation point: the step, the mean losses since the last point, a confusion matrix per tile."""

    step: int
    task_loss: float
    auxiliary_loss: float
    confusion_TKK: metrics.Areas

    def areas(self) -> metrics.Areas:
        """Areas [tiles, K, 3]."""
        return np.stack([metrics.areas(matrix) for matrix in self.confusion_TKK])


def confusion_per_tile(
    model: Segmentor,
    reader: Reader,
    split: Split,
    statistics: Statistics,
    classes: tuple[str, ...],
    device: torch.device,
) -> metrics.Areas:
    """Confusion matrix of every evaluated tile [tiles, K, K], source validation first, then the targets in order."""
    model.eval()
    matrices = []
    for tiles in split.evaluated.values():
        for batch in evaluation_batches(reader, tiles, classes, statistics, EVALUATION_BATCH):
            predictions = model.predict(batch.image.to(device)).cpu().numpy()
            for prediction_HW, label_HW in zip(predictions, batch.label.numpy(), strict=True):
                matrices.append(metrics.confusion(prediction_HW, label_HW, len(classes)))
    return np.stack(matrices)


class Selector:
    """Keeps the point each selection rule chooses, as the points come in.

    `last` is the final one; `source_val` has the best mIoU on held-out source scenes, `oracle` the best on the
    target; ties go to the earlier point.
    """

    def __init__(self, split: Split) -> None:
        """Start with no point."""
        self.split = split
        self.trace: list[dict[str, Any]] = []
        self.chosen: dict[str, Point] = {}
        self._best: dict[str, float] = {}

    def add(self, point: Point) -> None:
        """Take a point into account."""
        scores = {name: metrics.scores(areas).miou for name, areas in self._pooled(point).items()}
        for name in (SOURCE_VAL, TARGET):
            if math.isnan(scores[name]):
                raise ValueError(f"no labelled pixel in {name}: nothing can be scored there; complete the labels")
        losses = {"task_loss": point.task_loss, "auxiliary_loss": point.auxiliary_loss}
        self.trace.append({"step": point.step, **losses, "miou": _plain(scores)})
        self.chosen["last"] = point
        for selection, name in (("source_val", SOURCE_VAL), ("oracle", TARGET)):
            if selection not in self.chosen or scores[name] > self._best[selection]:
                self.chosen[selection], self._best[selection] = point, scores[name]

    def state(self) -> dict[str, Any]:
        """All that `load_state` needs."""
        points = {point.step: point for point in self.chosen.values()}
        return {
            "trace": self.trace,
            "best": self._best,
            "chosen": {selection: point.step for selection, point in self.chosen.items()},
            "points": [{**vars(p), "confusion_TKK": torch.from_numpy(p.confusion_TKK)} for p in points.values()],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        made = [Point(**{**kept, "confusion_TKK": kept["confusion_TKK"].cpu().numpy()}) for kept in state["points"]]
        points = {point.step: point for point in made}
        self.trace, self._best = list(state["trace"]), dict(state["best"])
        self.chosen = {selection: points[step] for selection, step in state["chosen"].items()}

    def scores(self) -> dict[str, Any]:
        """Per selection: its step and all scores of source validation, each target domain, and the pooled target."""
        return {
            selection: {
                "step": point.step,
                "scores": {name: _plain(asdict(metrics.scores(areas))) for name, areas in self._pooled(point).items()},
            }
            for selection, point in sorted(self.chosen.items())
        }

    def arrays(self) -> dict[str, metrics.Areas]:
        """Areas per tile and one confusion matrix per domain, for each chosen step."""
        arrays = {}
        for point in self.chosen.values():
            arrays[f"areas/{point.step}"] = point.areas()
            for domain, rows in self._rows().items():
                arrays[f"confusion/{point.step}/{domain}"] = point.confusion_TKK[rows].sum(0)
        return arrays

    def tiles(self) -> dict[str, list[str]]:
        """Domain, scene and name of every row of the areas."""
        pairs = [(domain, tile) for domain, tiles in self.split.evaluated.items() for tile in tiles]
        return {
            "domain": [domain for domain, _ in pairs],
            "scene": [tile.scene for _, tile in pairs],
            "name": [tile.name for _, tile in pairs],
        }

    def _rows(self) -> dict[str, slice]:
        rows, begin = {}, 0
        for domain, tiles in self.split.evaluated.items():
            rows[domain] = slice(begin, begin + len(tiles))
            begin += len(tiles)
        return rows

    def _pooled(self, point: Point) -> dict[str, metrics.Areas]:
        confusion = point.confusion_TKK
        by_domain = {domain: metrics.areas(confusion[rows].sum(0)) for domain, rows in self._rows().items()}
        targets = [by_domain[domain] for domain in self.split.targets]
        return by_domain | {TARGET: np.sum(targets, axis=0)}


def _plain(scores: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: undefined scores become None."""

    def value(x: Any) -> Any:
        if isinstance(x, tuple):
            return [value(item) for item in x]
        return None if math.isnan(x) else x

    return {name: value(x) for name, x in scores.items()}
