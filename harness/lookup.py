"""From names to things: tasks, backbones, suites, methods (ours, or from a file outside). Free of torch for ours."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from harness.trial import MethodRef
from methods import METHODS, OPTIONS
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


def find_method(name: str) -> MethodRef:
    """A built-in method by name, or a class from a file outside as `path/to/file.py:Class`.

    Raises:
        ValueError: unknown name, missing file, or a class that is no method.
    """
    if ".py:" not in name:
        options = _attribute(find("method", name, OPTIONS))
        return MethodRef(name=name, target=METHODS[name], options_class=options)
    path = Path(name.rpartition(":")[0])
    if not path.is_file():
        raise ValueError(f"method file {path} does not exist: give --method path/to/file.py:Class")
    cls = load_class(f"{path.resolve()}:{name.rpartition(':')[2]}")
    return MethodRef(
        name=str(cls.Options.name),
        target=f"{path.resolve()}:{cls.__name__}",
        options_class=cast(type[Options], cls.Options),
        source_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def load_class(target: str) -> Any:
    """The class a `MethodRef.target` names; imports torch.

    Raises:
        ValueError: the file has no such class, or the class is no `Method` with options.
    """
    cls = _attribute(target)
    from methods.base import Method

    if not (isinstance(cls, type) and issubclass(cls, Method) and hasattr(cls, "Options")):
        raise ValueError(f"{target} is no method: derive it from methods.base.Method and give it an Options class")
    return cls


def _attribute(target: str) -> Any:
    where, _, name = target.rpartition(":")
    module = _import_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    known = [key for key, value in vars(module).items() if isinstance(value, type)]
    if not hasattr(module, name):
        raise ValueError(f"{where} has no class {name!r}{nearest(name, known)}")
    return getattr(module, name)


def _import_file(path: Path) -> ModuleType:
    name = f"dgss_external_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    loader = spec.loader if spec else None
    assert spec, "a path ending in .py has a spec"
    assert loader, "a path ending in .py has a source loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
