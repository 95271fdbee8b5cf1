"""Areas and records whose truth is known: scenes differ in what they hold and how hard they are, seeds in skill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.evidence import Evidence, evidence_of
from harness.metrics import mean_iou, scores
from harness.plan import Request, make_plan
from harness.records import Record, RecordStore, surroundings
from harness.status import Status
from harness.trial import Trial

Floats = npt.NDArray[np.float64]
PIXELS = 4096


def _sigmoid(logit: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logit)))


@dataclass(frozen=True, kw_only=True)
class Population:
    """Three domains of scenes with seven classes; the same world for every draw.

    Args:
        seed_spread: how much the skill of trained models differs, on the logit scale.
        own_spread: how much a method's success in a scene is its own, not the scene's.
    """

    classes: int = 7
    domain_names: tuple[str, ...] = ("a", "b", "c")
    seed_spread: float = 0.0
    own_spread: float = 0.3
    facts: tuple[Floats, Floats, Floats] = field(init=False)

    def __post_init__(self) -> None:
        """Fix the world: shares of classes and recall by domain, and what is taken for what."""
        rng = np.random.default_rng(7)
        k, d = self.classes, len(self.domain_names)
        mistaken = rng.dirichlet(np.ones(k), k) * (1 - np.eye(k))
        mistaken /= mistaken.sum(1, keepdims=True)
        object.__setattr__(self, "facts", (rng.dirichlet(2 * np.ones(k), d), rng.normal(0.6, 0.7, (d, k)), mistaken))

    def domains(self, scenes: int) -> list[str]:
        """As evenly as they go."""
        return sorted(self.domain_names[i % len(self.domain_names)] for i in range(scenes))

    def scenes(self, rng: np.random.Generator, domains: list[str]) -> tuple[Floats, Floats]:
        """What every method meets: shares of the classes and logits of recall, each [N, K]."""
        shares, base, _ = self.facts
        index = [self.domain_names.index(domain) for domain in domains]
        labelled = np.stack([rng.dirichlet(3 * shares[i]) for i in index])
        return labelled, base[index] + rng.normal(0, 0.6, (len(index), 1)) + rng.normal(0, 0.6, labelled.shape)

    def method(
        self, rng: np.random.Generator, scenes: tuple[Floats, Floats], seeds: int, gain: float = 0.0
    ) -> npt.NDArray[np.int64]:
        """Areas [S, N, K, 3] of a method that is better by a gain in logits of recall."""
        labelled, hard = scenes
        skill = gain + rng.normal(0, self.seed_spread, (seeds, 1, 1))
        skill = skill + rng.normal(0, self.seed_spread, (seeds, 1, self.classes))
        own = rng.normal(0, self.own_spread, hard.shape) + rng.normal(0, 0.2, (seeds, *hard.shape))
        recall = _sigmoid(hard + skill + own)
        hit = recall * labelled
        predicted = hit + ((1 - recall) * labelled) @ self.facts[2]
        stacked = np.stack([hit, predicted, np.broadcast_to(labelled, hit.shape)], axis=-1)
        return np.asarray(np.round(PIXELS * stacked).astype(np.int64))

    def truth(self, scenes: int, gain: float = 0.0) -> float:
        """mIoU in percent of so many scenes' mixture of domains, expected over scenes and seeds."""
        rng = np.random.default_rng(1)
        models = 300 if self.seed_spread else 1
        each = 1500 if self.seed_spread else 60000
        domains = self.domains(scenes)
        pooled = np.zeros((models, self.classes, 3))
        for name in self.domain_names:
            drawn = self.scenes(rng, [name] * each)
            # a stream per domain, begun alike: a model keeps its skill from one to the next
            pooled += domains.count(name) * self.method(np.random.default_rng(2), drawn, models, gain).mean(1)
        return float(mean_iou(pooled).mean())


def simulated_record(trial: Trial, areas_NK3: npt.NDArray[np.int64], **run: Any) -> Record:
    """A whole record of a trial with these areas, one tile per scene; half as good at `last`."""
    targets = list(trial.data.targets)
    scenes = [(targets[i * len(targets) // len(areas_NK3)], f"scene{i}") for i in range(len(areas_NK3))]
    tiles = [("source_val", "held"), *scenes]
    areas = {2: np.concatenate([areas_NK3[:1], areas_NK3]), 1: np.concatenate([areas_NK3[:1], areas_NK3])}
    areas[1] = areas[1] - np.stack([areas[1][..., 0] // 2, *[np.zeros_like(areas[1][..., 0])] * 2], axis=-1)
    of = np.array([domain for domain, _ in tiles])

    def selection(step: int) -> dict[str, Any]:
        names = {name: of == name for name in ("source_val", *targets)} | {"target": of != "source_val"}
        return {"step": step, "scores": {name: _plain(areas[step][rows].sum(0)) for name, rows in names.items()}}

    return Record(
        key=trial.key,
        status=Status.DONE,
        result={
            "inputs": trial.inputs(),
            "labels": trial.labels(),
            "classes": list(trial.data.classes),
            "points": [
                {"step": step, "task_loss": 1.0, "auxiliary_loss": 0.0, "miou": {"source_val": 1.0, "target": 1.0}}
                for step in (1, 2)
            ],
            "panels": [],
            "parameters": {"adapter": 1000 * len(trial.method.name), "head": 50},
            "tiles": {"domain": list(of), "scene": [scene for _, scene in tiles], "name": [s for _, s in tiles]},
            "selections": {"last": selection(1), "source_val": selection(2), "oracle": selection(2)},
        },
        run={
            **surroundings(datetime.now(UTC)),
            "step_ms_median": 100.0 + len(trial.method.name),
            "train_seconds": 1.0,
            "seconds": 2.0,
            "process_peak_memory_mb": 500.0,
            "device": "cpu",
            **run,
        },
        arrays={f"areas/{step}": tiles_K3 for step, tiles_K3 in areas.items()},
    )


def write_results(
    results: Path,
    gains: Mapping[str, float],
    *,
    tasks: tuple[str, ...] = ("fbp_cs",),
    seeds: int = 3,
    scenes: int = 12,
    spread: float = 0.02,
    rare: str = "",
    **request: Any,
) -> list[Record]:
    """Records of methods by their gain on these tasks, all on the same simulated scenes, where scale test has them."""
    plan = make_plan(
        Request(
            **{
                "suite": "fair",
                "scale": "test",
                "tasks": list(tasks),
                "backbones": ["dinov3"],
                "methods": list(gains),
                "seeds": seeds,
                **request,
            }
        ),
        None,
    )
    store = RecordStore(results / "test" / "records")
    records = []
    for task in tasks:
        trials = [planned.trial for planned in plan.trials if planned.trial.task.name == task]
        for trial in trials:
            world = Population(classes=len(trial.data.classes), domain_names=trial.data.targets, seed_spread=spread)
            drawn = world.scenes(np.random.default_rng(3), world.domains(scenes))
            rng = np.random.default_rng([trial.seed, *trial.method.name.encode()])
            areas_NK3 = world.method(rng, drawn, 1, gains[trial.method.name])[0]
            if rare:  # a class that all scenes but the first two lack
                areas_NK3[2:, trial.data.classes.index(rare)] = 0
            records.append(simulated_record(trial, areas_NK3))
            store.write(records[-1])
    return records


def hits(shares: npt.ArrayLike, out_of: int = 10_000) -> npt.NDArray[np.int64]:
    """Areas [seeds, scenes, 1, 3] of one class whose IoU is the mean of these shares [seeds, scenes]."""
    hit = np.round(np.asarray(shares) * out_of).astype(np.int64)
    return np.stack([hit, hit, np.full_like(hit, out_of)], axis=-1)[:, :, None]


def row(
    areas: npt.NDArray[np.int64],
    domains: Sequence[str],
    seeds: Sequence[int] = (),
    title: str = "frozen",
    task: str = "fbp_cs",
) -> Evidence:
    """Evidence with these areas; seeds 0, 1, ... if none are given."""
    seeds = seeds or range(len(areas))
    request = Request(suite="smoke", scale="test", tasks=[task], methods=[title], seeds=max(seeds) + 1)
    plan = make_plan(request, None)
    trials = {planned.trial.seed: planned.trial for planned in plan.trials}
    blank = np.ones((4, len(trials[0].data.classes), 3), np.int64)
    return replace(
        evidence_of([simulated_record(trials[seed], blank) for seed in seeds]),
        scenes=tuple(f"{domain}/{i}" for i, domain in enumerate(domains)),
        domains=tuple(domains),
        areas=areas,
    )


def _plain(areas_K3: npt.NDArray[np.int64]) -> dict[str, Any]:
    values = asdict(scores(areas_K3))
    return {
        name: None if isinstance(value, float) and np.isnan(value) else _list(value) for name, value in values.items()
    }


def _list(value: Any) -> Any:
    return [None if np.isnan(item) else item for item in value] if isinstance(value, tuple) else value
