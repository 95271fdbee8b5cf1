"""What a trial is, its key and its named random streams. Free of torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.tasks import AS_IS, DataSource, Reader, Shift, Task, short_hash
from harness.scales import Protocol, Scale
from harness.zoo import HUB, BackboneSpec, Build
from methods.options import Options


@dataclass(frozen=True, kw_only=True)
class MethodRef:
    """A method by name, without its code: where its class is, its options class, and its source's hash if not ours."""

    name: str
    target: str
    options_class: type[Options]
    source_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run: task x backbone x method x options x seed under a protocol at a scale."""

    task: Task
    data: DataSource
    data_root: Path | None
    data_fingerprint: str
    backbone: BackboneSpec
    depth_encoder: BackboneSpec | None
    method: MethodRef
    options: Options
    protocol: Protocol
    scale: Scale
    seed: int

    def inputs(self) -> dict[str, Any]:
        """Everything that changes the numbers, plainly; its hash is the trial key."""
        return {
            "task": self.task.name,
            "task_version": self.task.version,
            "data": self.data.kind,
            "data_fingerprint": self.data_fingerprint,
            **({"shift": self.shift} if self.shift else {}),
            "backbone": self.backbone_name,
            "weights": self.weights,
            "builds": [self._build(encoder) for encoder in (self.backbone, self.depth_encoder) if encoder],
            "method": self.method.name,
            "method_version": self.options.version,
            "method_source_sha256": self.method.source_sha256,
            # one source may hold several classes that share their Options
            **({"method_class": self.method.target.rpartition(":")[2]} if self.method.source_sha256 else {}),
            "lr_scale": self.options.lr_scale,
            "options": asdict(self.options),
            "protocol": self.protocol.inputs(),
            "protocol_version": Protocol.VERSION,
            "scale": self.scale.name,
            "head": asdict(self.scale.head),
            "seed": self.seed,
        }

    @cached_property
    def weights(self) -> dict[str, str]:
        """What stands for the weights of backbone and depth encoder, by their names.

        Raises:
            ValueError: a shipped file is missing, or a published one is not what it was.
        """
        return self._weights()

    def _weights(self) -> dict[str, str]:
        random = [self.backbone] if self.protocol.encoder_init == "random" else []
        encoders = [encoder for encoder in (self.backbone, self.depth_encoder) if encoder]
        return {
            encoder.name: "random" if encoder in random else encoder.builds[self.scale.build].digest
            for encoder in encoders
        }

    @property
    def missing_weights(self) -> dict[str, Build]:
        """Builds whose published weights are not on this machine, by the names of their encoders.

        Until they are, the key is a preliminary one: it holds their names in place of their digests.
        """
        return {
            encoder.name: encoder.builds[self.scale.build]
            for encoder in filter(None, (self.backbone, self.depth_encoder))
            if self.weights[encoder.name].startswith(HUB)
        }

    def confirm_weights(self) -> None:
        """Compare the weights on this machine with those the key was made of, maybe on another one.

        Raises:
            ValueError: they are others.
        """
        for name, digest_here in self._weights().items():
            if digest_here != self.weights[name]:
                raise ValueError(
                    f"weights of {name} are {digest_here} here and {self.weights[name]} where the trial was planned: "
                    f"give both machines the same file"
                )

    @property
    def shift(self) -> dict[str, Any]:
        """Severity and ingredients of the shift, where they are not the task's own; empty on files."""
        if self.data.kind != "embedded" or self.scale.scenes is None:
            return {}
        return _changed(self.scale.scenes.shift)

    @property
    def shift_text(self) -> str:
        """The same for people: tables of one shift never look like those of another."""
        return shift_text(self.scale.scenes.shift) if self.shift and self.scale.scenes else ""

    @property
    def backbone_name(self) -> str:
        """The backbone's name at the trial's scale."""
        return self.backbone.builds[self.scale.build].name

    def _build(self, encoder: BackboneSpec) -> dict[str, Any]:
        build = encoder.builds[self.scale.build]
        return {"entry": encoder.entry, "options": dict(build.options), "feature_blocks": list(build.feature_blocks)}

    def open_reader(self) -> Reader:
        """The reader of the trial's tiles. Raises `ValueError` where the data are missing or defective."""
        where = self.data_root if self.data.kind == "files" else self.scale.scenes
        assert where is not None, "the plan gives every trial a supply of tiles"
        return self.data.open(where)

    @property
    def key(self) -> str:
        """Names the record: 16 hexadecimal digits over `inputs`."""
        return digest(self.inputs())

    def labels(self) -> dict[str, Any]:
        """For people: titles, and what differs from the defaults; kept in the record, so tables look nothing up."""
        plain = asdict(type(self.options).make({"preset": self.options.preset}))
        preset: dict[str, Any] = (
            {"preset": self.options.preset} if self.options.preset != type(self.options).preset else {}
        )
        if self.options.lr_scale != 1:
            preset = preset | {"lr_scale": self.options.lr_scale}
        options = preset | {name: value for name, value in asdict(self.options).items() if value != plain[name]}
        default = asdict(self.scale.protocol_of(self.task))
        changed = {name: value for name, value in asdict(self.protocol).items() if value != default[name]}
        recipe = {name: value for name, value in changed.items() if name not in Protocol.CONTROLS}
        controls = {name: value for name, value in changed.items() if name in Protocol.CONTROLS}
        return {
            "task": self.data.title,
            "domains": dict(self.data.sensors),
            "data": "synthetic" if self.data.kind == "embedded" else "files",
            "backbone": self.backbone.title,
            "method": self.options.title,
            "port": self.options.port,
            "baseline": self.options.baseline,
            "options": _text(options),
            "controls": _text(controls),
            "recipe": ", ".join(filter(None, (self.shift_text, _text(recipe)))),
        }

    def __str__(self) -> str:
        """Task, backbone, method, what differs from the defaults, and seed."""
        labels = self.labels()
        extra = special(labels)
        method = f"{self.method.name} ({extra})" if extra else self.method.name
        return f"{self.task.name} · {self.backbone_name} · {method} · seed {self.seed}"


def shift_text(shift: Shift) -> str:
    """Severity and ingredients of a shift for people, where they are not the task's own."""
    changed = _changed(shift)
    return _text({name: "+".join(value) if name == "ingredients" else value for name, value in changed.items()})


def _changed(shift: Shift) -> dict[str, Any]:
    return {name: value for name, value in asdict(shift).items() if value != getattr(AS_IS, name)}


def special(labels: Mapping[str, Any]) -> str:
    """Options and controls that are not the default, as one text."""
    return ", ".join(filter(None, (labels["options"], labels["controls"])))


def _text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def canonical(value: Any) -> str:
    """JSON with sorted keys in which `1` and `1.0` are one number."""

    def plain(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {str(key): plain(item) for key, item in node.items()}
        if isinstance(node, (list, tuple)):
            return [plain(item) for item in node]
        if isinstance(node, float) and node.is_integer():
            return int(node)
        return node

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the canonical form."""
    return short_hash(canonical(value))


def stream_seed(seed: int, name: str) -> int:
    """Seed of a named random stream (head, adapter, order, augmentation, noise): streams never disturb one another."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")
