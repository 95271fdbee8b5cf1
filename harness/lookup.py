"""From names to things: tasks, backbones, suites, methods (ours, or from a file outside). Free of torch for ours."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from harness.scales import SCALES, Scale
from harness.trial import MethodRef, Trial
from methods import METHODS, OPTIONS, REFUSED
from methods.options import Options, nearest

T = TypeVar("T")


def find(kind: str, name: str, known: Mapping[str, T]) -> T:
    """The thing of that name.

    Raises:
        ValueError: unknown; the nearest known name is suggested.
    """
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}{nearest(name, known)}")
    return known[name]


def find_scale(name: str) -> Scale:
    """The scale of that name; the hidden one, for tests, is found but never suggested."""
    return find("scale", name, {known: scale for known, scale in SCALES.items() if known in (name, "mini", "paper")})


def find_method(name: str) -> MethodRef:
    """A built-in method by name, or a class from a file outside as `path/to/file.py:Class`.

    Raises:
        ValueError: unknown name, missing file, or a class that is no method.
    """
    if name in REFUSED:
        raise ValueError(f"method {name} is not offered: {REFUSED[name]}")
    if ".py:" not in name:
        options = _attribute(find("method", name, OPTIONS))
        return MethodRef(name=name, target=METHODS[name], options_class=options)
    path = Path(name.rpartition(":")[0])
    if not path.is_file():
        raise ValueError(f"method file {path} does not exist: give --method path/to/file.py:Class")
    source_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    cls = load_class(f"{path.resolve()}:{name.rpartition(':')[2]}", source_sha256)
    return MethodRef(
        name=str(cls.Options.name),
        target=f"{path.resolve()}:{cls.__name__}",
        options_class=cast(type[Options], cls.Options),
        source_sha256=source_sha256,
    )


def load_class(target: str, source_sha256: str = "") -> Any:
    """The class a `MethodRef.target` names; imports torch.

    Args:
        target: `module:Class` or `path/to/file.py:Class`.
        source_sha256: what the file's source must hash to; empty for any.

    Raises:
        ValueError: the file has changed or has no such class, or the class is no `Method` with options.
    """
    path = target.rpartition(":")[0]
    if source_sha256 and hashlib.sha256(Path(path).read_bytes()).hexdigest() != source_sha256:
        raise ValueError(f"method file {path} has changed since the plan was made: run the command again")
    cls = _attribute(target)
    from methods.base import Method

    if not (isinstance(cls, type) and issubclass(cls, Method) and hasattr(cls, "Options")):
        raise ValueError(f"{target} is no method: derive it from methods.base.Method and give it an Options class")
    missing = [fact for fact in ("name", "title", "paper", "ports") if not hasattr(cls.Options, fact)]
    if missing:
        raise ValueError(f"{target}: its Options class does not say its {', '.join(missing)}")
    return cls


def pack(trial: Trial) -> dict[str, Any]:
    """A trial as it travels to another process: a method from a file outside is no module there yet."""
    plain = {field.name: getattr(trial, field.name) for field in fields(trial)}
    method = {"name": trial.method.name, "target": trial.method.target, "source_sha256": trial.method.source_sha256}
    return {**plain, "method": method, "options": asdict(trial.options)}


def unpack(parcel: Mapping[str, Any]) -> Trial:
    """The trial that `pack` was given.

    Raises:
        ValueError: the method's file has changed, or cannot be imported here.
    """
    method = parcel["method"]
    if method["source_sha256"]:
        options_class = load_class(method["target"], method["source_sha256"]).Options
    else:
        options_class = _attribute(OPTIONS[method["name"]])
    ref = MethodRef(**method, options_class=options_class)
    return Trial(**{**parcel, "method": ref, "options": options_class.make(parcel["options"])})


def _attribute(target: str) -> Any:
    where, _, name = target.rpartition(":")
    module = _import_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    known = [key for key, value in vars(module).items() if isinstance(value, type)]
    if not hasattr(module, name):
        raise ValueError(f"{where} has no class {name!r}{nearest(name, known)}")
    return getattr(module, name)


def _import_file(path: Path) -> ModuleType:
    source = path.read_bytes()
    # by source, so that a mended file is never answered from the modules of a long-lived process
    name = f"dgss_external_{hashlib.sha256(str(path).encode() + source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError) as error:
        del sys.modules[name]
        raise ValueError(f"method file {path} cannot be imported ({type(error).__name__}: {error}): mend it") from error
    return module
