"""What MLflow shows of one record: the name, tags, parameters and metrics of its run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from harness.records import Record
from harness.split import SOURCE_VAL, TARGET
from harness.trial import digest, special

VERSION = 1
"""Rises when a run's contents change, so that `track` writes older runs again."""

_LONGEST = 5000  # characters of a parameter or tag; MLflow takes 6000 and 8000


def name_of(record: Record) -> str:
    """The run's name: what differs from the defaults comes last, because the list of runs cuts names short."""
    inputs, extra = record.inputs, special(record.result["labels"])
    name = f"{inputs['method']} · {inputs['backbone']} · {inputs['task']} · seed {inputs['seed']}"
    return f"{name} ({extra})" if extra else name


def stamp_of(record: Record) -> str:
    """What a run shows, in short. A record just made does not hold the hash of its array file yet."""
    result = {name: value for name, value in record.result.items() if name != "arrays_sha256"}
    return digest([VERSION, record.status, result, record.run["finished"]])


def tags_of(record: Record) -> dict[str, str]:
    """What the run is searched by, with the reason of a failure."""
    error = {"error": record.error["type"], "error_message": record.error["message"]} if record.error else {}
    return _cut(
        {
            "status": record.status,
            "port": record.result["labels"]["port"],
            **{name: record.inputs[name] for name in ("task", "method", "backbone")},
            **{name: record.run[name] for name in ("commit", "host", "device") if name in record.run},
            **error,
        }
    )


def params_of(record: Record) -> dict[str, str]:
    """Task, backbone, method, options and protocol."""
    inputs, labels = record.inputs, record.result["labels"]
    return _cut(
        {
            **{name: inputs[name] for name in ("task", "backbone", "method", "seed", "scale")},
            "preset": inputs["options"]["preset"],
            **{name: labels[name] for name in ("data", "options", "controls", "recipe")},
            **{f"option.{name}": value for name, value in inputs["options"].items()},
            **{f"protocol.{name}": value for name, value in inputs["protocol"].items()},
        }
    )


def metrics_of(record: Record) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of everything that is defined; what holds for the whole trial stands at step 0."""
    values = [(name, value, 0) for name, value in _finals(record).items()]
    for point in record.result.get("points", []):
        values += [(f"by_step/{name}", point[name], point["step"]) for name in ("task_loss", "auxiliary_loss")]
        values += [(f"by_step/mIoU/{domain}", value, point["step"]) for domain, value in point["miou"].items()]
    yield from ((re.sub(r"[^\w\-./: ]", "_", name), value, step) for name, value, step in values if value is not None)


def millis_of(record: Record, event: str) -> int:
    """When the trial `started` or `finished`, in milliseconds since 1970."""
    return round(1000 * datetime.fromisoformat(record.run[event]).timestamp())


def _finals(record: Record) -> dict[str, Any]:
    run, result = record.run, record.result
    values = {}
    if "selections" in result:
        scores = {selection: found["scores"] for selection, found in result["selections"].items()}
        chosen = scores["source_val"]
        values = {
            "target_mIoU": chosen[TARGET]["miou"],
            "source_mIoU": chosen[SOURCE_VAL]["miou"],
            "last_target_mIoU": scores["last"][TARGET]["miou"],
            "oracle_target_mIoU": scores["oracle"][TARGET]["miou"],
            "target_mAcc": chosen[TARGET]["macc"],
        }
        values |= {f"mIoU/{name}": score["miou"] for name, score in chosen.items() if name not in (SOURCE_VAL, TARGET)}
    cost = {"seconds": "seconds", "step_ms": "step_ms_median", "peak_memory_mb": "process_peak_memory_mb"}
    values |= {f"cost/{name}": run.get(source) for name, source in cost.items()}
    return values | {f"parameters/{group}": count for group, count in result.get("parameters", {}).items()}


def _cut(values: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: str(value) for name, value in values.items()}
    return {name: text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for name, text in texts.items()}
