"""Any ViT of timm as a backbone, by its name there: `timm:vit_base_patch16_dinov3`. Free of torch.

Only timm knows its models, and importing it imports torch. So it is asked in a process of its own, once: the answer is
kept in the weights folder, for this version of timm.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.tasks import short_hash
from harness.weight_sources import Source
from harness.weight_store import weights_folder
from harness.zoo import BACKBONES, HUB, RGB, BackboneSpec, Build

log = logging.getLogger(__name__)

PREFIX = "timm:"
"""What the names of such backbones begin with."""

_PROBE = Path(__file__).with_name("timm_probe.py")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What timm says of a model that can be a backbone.

    Args:
        name: with the tag of its weights.
        depth: number of blocks.
        options: what its entry point is called with.
        repository: of its weights on the hub.
        licence: of the weights.
        unused: tensors of the file that no feature depends on: the classifier's.
    """

    name: str
    depth: int
    options: Mapping[str, Any]
    repository: str
    licence: str
    unused: tuple[str, ...]


@cache
def timm_backbone(name: str) -> BackboneSpec:
    """A ViT of timm at its published size; one that is ours by another name is that one.

    Patches become 16 pixels wide, positions keep their published grid, which timm fits to each image, and features are
    those of `feature_blocks`.

    Args:
        name: `timm:NAME` for the weights that timm takes by default, or `timm:NAME.TAG`.

    Raises:
        ValueError: timm has no such model or weights (the nearest are suggested), or it does not fit, with the reason.
    """
    ours = {spec.builds["paper"].weights: spec for spec in BACKBONES.values()}
    wanted = name.removeprefix(PREFIX)
    if HUB + wanted in ours:
        return ours[HUB + wanted]
    facts = _ask(wanted)
    if HUB + facts.name in ours:
        return ours[HUB + facts.name]
    build = Build(
        name=PREFIX + facts.name,
        weights=HUB + facts.name,
        feature_blocks=feature_blocks(facts.depth),
        options=facts.options,
        files=(Source(repository=facts.repository, licence=facts.licence, unused=tuple(facts.unused)),),
    )
    entry = facts.name.partition(".")[0]
    return BackboneSpec(name=build.name, title=facts.name, entry=entry, bands=RGB, builds={"paper": build})


def feature_blocks(depth: int) -> tuple[int, int, int, int]:
    """The blocks after a third, a half, two thirds and all of them: 7, 11, 15, 23 of 24, and 3, 5, 7, 11 of 12."""
    return depth // 3 - 1, depth // 2 - 1, 2 * depth // 3 - 1, depth - 1


def _ask(name: str) -> Facts:
    if "timm" in sys.modules:  # what it costs is paid already
        from harness.timm_probe import probe

        return Facts(**probe(name))
    kept = weights_folder() / f"timm-{version('timm')}-{short_hash(_PROBE.read_bytes())}.json"
    known = _read(kept)
    if name not in known:
        answer = _ask_elsewhere(name)
        known |= {name: answer, str(answer["name"]): answer}
        _write(kept, known)
    return Facts(**known[name])


def _ask_elsewhere(name: str) -> dict[str, Any]:
    log.info("asking timm about %s, once", name)
    command = [sys.executable, "-m", f"harness.{_PROBE.stem}", name]
    done = subprocess.run(command, cwd=_PROBE.parents[1], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(
            f"timm cannot be asked about {name}: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}"
        )
    answer = json.loads(done.stdout)
    if "refused" in answer:
        raise ValueError(answer["refused"])
    facts: dict[str, Any] = answer["facts"]
    return facts


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return {}  # made anew


def _write(path: Path, known: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=1))
        temporary.replace(path)
    except OSError as error:
        log.info("timm's answer cannot be kept in %s (%s): it is asked each time", path, error.strerror)
