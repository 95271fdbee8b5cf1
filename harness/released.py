"""Published checkpoints turned into our format. Which tensors are a method's, its `from_released` says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.adapters import Adapter, options_of, state_of
from harness.backbone_names import find_backbone
from harness.checkpoints import Checkpoint, read_checkpoint
from harness.lookup import find_method, find_scale, load_class, parse_settings
from harness.params import meta_segmentor
from harness.prefixes import count_by_first_part, find_prefix, group_by_prefix
from harness.released_screen import show_import
from harness.trial import MethodRef
from methods.base import EncoderSpec, Method
from methods.loading import ReleasedMismatch
from methods.options import nearest


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What to read, in the user's words.

    Args:
        file: the published checkpoint.
        method: name, or path/to/file.py:Class.
        backbone: what it was trained on; the name in papers will do.
        scale: scale whose sizes that backbone and the head have.
        settings: `method.option=value`, `protocol.queries=plain` or `protocol.crop=pixels`.
        queries: number of the head's queries; 0 for the scale's.
        prefix: what stands before the adapter's names; None to find it.
    """

    file: Path
    method: str
    backbone: str
    scale: str = "paper"
    settings: Sequence[str] = ()
    queries: int = 0
    prefix: str | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """What to write.

    Args:
        out: the adapter file; None for one beside the checkpoint.
        force: overwrite it.
        report: JSON file for the full lists of names, or None.
    """

    out: Path | None = None
    force: bool = False
    report: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in a checkpoint.

    Args:
        method: title of the method.
        source: the checkpoint.
        sha256: its hash.
        part: key in the file under which the tensors lay.
        others: keys of the file that were not read.
        prefix: what stood before the adapter's names.
        matched: released names found.
        missing: released names that are not there.
        unexpected: names under the prefix that the method does not know.
        shapes: tensors that do not fit, one text each.
        beside: the file's other tensors by the first part of their names: how many, and how many numbers.
        spec: the encoder it was read for.
        backbone: that encoder's name and scale.
        options: what was read off the tensors or given, where it differs from the preset.
        numbers: how many numbers were written.
        written: the file written, or None.
    """

    method: str
    source: str
    sha256: str
    part: str
    others: Sequence[str]
    prefix: str
    matched: Sequence[str]
    missing: Sequence[str] = ()
    unexpected: Sequence[str] = ()
    shapes: Sequence[str] = ()
    beside: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    spec: EncoderSpec
    backbone: str
    options: Mapping[str, Any] = field(default_factory=dict)
    numbers: int = 0
    written: str | None = None


def import_checkpoint(request: ImportRequest, target: Target) -> None:
    """Read the adapter out of a published checkpoint, show what was found, and write it in our format.

    Raises:
        ValueError: an unknown name or option, a file that cannot be read safely, or an adapter that is not there in
            full, in which case nothing is written.
    """
    ref = find_method(request.method)
    # two spellings are one backbone
    request = replace(request, backbone=find_backbone(request.backbone).name)
    options, protocol = _settings(request.settings, ref)
    spec = _spec(request, ref, protocol)
    cls: type[Method] = load_class(ref.target, ref.source_sha256)
    if not cls.overrides("from_released"):
        cls.from_released({}, spec)

    def read(tensors: Mapping[str, Tensor]) -> Method:
        return cls.from_released(tensors, spec, **options)

    written = _free(target, request.file, ref)
    checkpoint = read_checkpoint(request.file)
    groups = group_by_prefix(checkpoint.tensors)
    prefix = find_prefix(request.file, groups, read) if request.prefix is None else request.prefix.rstrip(".")
    if prefix not in groups:
        raise ValueError(f"--prefix {request.prefix}: no tensor's name begins so{nearest(prefix, groups)}")
    report = _report(request, ref, checkpoint, prefix, spec)
    try:
        method = read(groups[prefix])
    except ReleasedMismatch as mismatch:
        _show(target, _refused(report, mismatch))
        spec_from = "; the spec follows --backbone, --scale and --queries" if mismatch.shapes else ""
        raise ValueError(f"{request.file}: nothing was written, because {mismatch}{spec_from}") from mismatch
    adapter = _adapter(request, method, report.sha256)
    adapter.write(written)
    plain = asdict(ref.options_class.make({"preset": adapter.options["preset"]}))
    changed = {name: value for name, value in adapter.options.items() if name == "preset" or value != plain[name]}
    numbers = sum(tensor.numel() for tensor in adapter.tensors.values())
    _show(target, replace(report, options=changed, numbers=numbers, written=str(written)))


def _settings(settings: Sequence[str], ref: MethodRef) -> tuple[dict[str, str], dict[str, str]]:
    """Options of the method, and fields of the protocol that the encoder spec depends on."""
    parsed = parse_settings(settings, (ref.name, "protocol"))
    protocol = parsed.get("protocol", {})
    for name, value in protocol.items():
        if name not in ("queries", "crop"):
            raise ValueError(
                f"--set protocol.{name}={value}: no adapter depends on it; of the protocol only queries and crop count"
            )
    return parsed.get(ref.name, {}), protocol


def _spec(request: ImportRequest, ref: MethodRef, protocol: Mapping[str, Any]) -> EncoderSpec:
    """The encoder of that name at that scale, on the meta device."""
    scale = find_scale(request.scale)
    backbone = find_backbone(request.backbone, scale.build)
    if request.queries < 0:
        raise ValueError(f"--queries {request.queries}: give 1 or more")
    head = replace(scale.head, queries=request.queries or scale.head.queries)
    scale = replace(scale, head=head, protocol=scale.protocol.change(protocol))
    spec = meta_segmentor(ref, ref.options_class.make({}), backbone, scale).method.spec
    return replace(spec, linked=scale.protocol.queries == "linked")


def _free(target: Target, source: Path, ref: MethodRef) -> Path:
    """The file to write, if it may be written."""
    path = target.out or source.with_name(f"{source.stem}.{ref.name}.safetensors")
    if path.resolve() == source.resolve():
        raise ValueError(f"--out {path} is the checkpoint itself: choose another file")
    if path.exists() and not target.force:
        raise ValueError(f"{path} exists: overwrite it with --force, or choose another file with --out")
    if not path.parent.is_dir():
        raise ValueError(f"--out {path}: its folder does not exist; make it first")
    return path


def _report(request: ImportRequest, ref: MethodRef, checkpoint: Checkpoint, prefix: str, spec: EncoderSpec) -> Report:
    with request.file.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    inside = f"{prefix}." if prefix else ""
    rest = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith(inside)}
    return Report(
        method=ref.options_class.title,
        source=str(request.file),
        sha256=sha256,
        part=checkpoint.part,
        others=checkpoint.others,
        prefix=inside,
        matched=sorted(name.removeprefix(inside) for name in checkpoint.tensors.keys() - rest.keys()),
        beside=count_by_first_part(rest),
        spec=spec,
        backbone=f"{request.backbone} at scale {request.scale}",
    )


def _refused(report: Report, mismatch: ReleasedMismatch) -> Report:
    found = report.matched if mismatch.shapes else mismatch.matched
    return replace(report, matched=found, missing=mismatch.missing, unexpected=mismatch.unknown, shapes=mismatch.shapes)


def _adapter(request: ImportRequest, method: Method, sha256: str) -> Adapter:
    options = options_of(method)
    return Adapter(
        method=request.method,
        method_version=options.version,
        options=asdict(options),
        spec=method.spec,
        backbone=request.backbone,
        scale=request.scale,
        source=request.file.name,
        source_sha256=sha256,
        tensors=state_of(method),
    )


def _show(target: Target, report: Report) -> None:
    show_import(report)
    if target.report:
        try:
            target.report.write_text(json.dumps(asdict(report), indent=1))
        except OSError as error:
            raise ValueError(f"--report {target.report} cannot be written ({error.strerror})") from error
