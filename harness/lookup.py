"""From names to things: tasks, backbones, suites, methods (ours, or from outside). Free of torch for ours."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from benchmarks.catalogue import TASKS
from benchmarks.tasks import Task
from benchmarks.user_task import load_task
from harness.plugins import installed, sole
from harness.scales import SCALES, Scale
from harness.sources import fingerprint, import_source
from harness.trial import MethodRef, Trial
from methods import METHODS, OPTIONS, REFUSED
from methods.options import Options, nearest

T = TypeVar("T")


def find(kind: str, name: str, known: Mapping[str, T], also: str = "") -> T:
    """The thing of that name; `also` is a form of names that the message tells of beside the known ones.

    Raises:
        ValueError: unknown; the nearest known name is suggested.
    """
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}{nearest(name, [*known, *filter(None, [also])])}")
    return known[name]


def find_task(name: str) -> Task:
    """A task of ours by name, or a user's own as `path/to/task.toml`.

    Raises:
        ValueError: an unknown name (the nearest is suggested), or a wrong task file.
    """
    return load_task(Path(name)) if name.endswith(".toml") else find("task", name, TASKS)


def find_tasks(names: Iterable[str]) -> dict[str, Task]:
    """Several tasks by name, `all` for every one of ours; `ValueError` as by `find_task`, or if two share a name."""
    found: dict[str, Task] = {}
    for task in [find_task(name) for given in names for name in (TASKS if given == "all" else (given,))]:
        if found.setdefault(task.name, task) != task:
            raise ValueError(f"two task files define {task.name!r}: give one of them another name")
    return found


def find_scale(name: str) -> Scale:
    """The scale of that name; the hidden one, for tests, is found but never suggested."""
    return find("scale", name, {known: scale for known, scale in SCALES.items() if known in (name, "mini", "paper")})


def parse_settings(settings: Iterable[str], known: Collection[str]) -> dict[str, dict[str, str]]:
    """Values of `--set owner.option=value` by owner and option; the last one of an option counts.

    Args:
        settings: in the user's words.
        known: owners: `protocol`, and the methods that may be named.

    Raises:
        ValueError: one is not of that form, or its owner is unknown; the nearest known owner is suggested.
    """
    parsed: dict[str, dict[str, str]] = {}
    for setting in settings:
        target, equals, value = setting.partition("=")
        owner, dot, option = target.partition(".")
        if not (equals and dot and option):
            raise ValueError(f"--set {setting}: write method.option=value or protocol.field=value")
        if owner not in known:
            raise ValueError(f"--set {setting}: unknown method {owner!r}{nearest(owner, known)}")
        parsed.setdefault(owner, {})[option] = value
    return parsed


def find_method(name: str) -> MethodRef:
    """A method by name, built in or of an installed plug-in, or a class from a file as `path/to/file.py:Class`.

    Raises:
        ValueError: unknown or ambiguous name, missing file, or a class that is no method.
    """
    if name in REFUSED:
        raise ValueError(f"method {name} is not offered: {REFUSED[name]}")
    if ".py:" in name:
        path, _, cls = name.rpartition(":")
        if not Path(path).is_file():
            raise ValueError(f"method file {path} does not exist: give --method path/to/file.py:Class")
        return _external(f"{Path(path).resolve()}:{cls}")
    if name.endswith(".py") or "/" in name:
        raise ValueError(f"method file {name}: say which class of it, as in {name.partition(':')[0]}:MyMethod")
    offers = installed()
    if name not in offers:
        return built_in(find("method", name, {known: known for known in [*METHODS, *offers]}))
    plugin = sole(name, offers[name])
    method = _external(plugin.target)
    if method.name != name:
        raise ValueError(
            f"plug-in {name} of {plugin.distribution}: {plugin.target} is called {method.name!r} in its Options class: "
            f"give the two one name"
        )
    return method


def find_methods(name: str) -> list[MethodRef]:
    """The method of that name; for `all`, every one that a suite's wildcard stands for, which no plug-in is."""
    if name != "all":
        return [find_method(name)]
    every = [built_in(known) for known in METHODS]
    return [method for method in every if not method.options_class.control]


def built_in(name: str) -> MethodRef:
    """One of our own methods, whatever is installed; its options alone are imported, which are free of torch."""
    return MethodRef(name=name, target=METHODS[name], options_class=_attribute(OPTIONS[name]))


def _external(target: str) -> MethodRef:
    source = fingerprint(target.rpartition(":")[0])
    options_class = cast(type[Options], load_class(target, source).Options)
    return MethodRef(name=str(options_class.name), target=target, options_class=options_class, source_sha256=source)


def load_class(target: str, source_sha256: str = "") -> Any:
    """The class a `MethodRef.target` names; imports torch.

    Args:
        target: `module:Class` or `path/to/file.py:Class`.
        source_sha256: what its source must hash to, if it is not ours; empty for any.

    Raises:
        ValueError: the source has changed or has no such class, or the class is no `Method` with options.
    """
    cls = _attribute(target, source_sha256)
    from methods.base import Method

    if not (isinstance(cls, type) and issubclass(cls, Method) and hasattr(cls, "Options")):
        raise ValueError(f"{target} is no method: derive it from methods.base.Method and give it an Options class")
    missing = [fact for fact in ("name", "title", "paper", "ports") if not hasattr(cls.Options, fact)]
    if missing:
        raise ValueError(f"{target}: its Options class does not say its {', '.join(missing)}")
    return cls


def pack(trial: Trial) -> dict[str, Any]:
    """A trial as it travels to another process: a method from outside is no module there yet."""
    plain = {field.name: getattr(trial, field.name) for field in fields(trial)}
    method = {"name": trial.method.name, "target": trial.method.target, "source_sha256": trial.method.source_sha256}
    return {**plain, "method": method, "options": asdict(trial.options)}


def unpack(parcel: Mapping[str, Any]) -> Trial:
    """The trial that `pack` was given.

    Raises:
        ValueError: the method's source has changed, or cannot be imported here.
    """
    method = parcel["method"]
    if method["source_sha256"]:
        options_class = load_class(method["target"], method["source_sha256"]).Options
    else:
        options_class = _attribute(OPTIONS[method["name"]])
    ref = MethodRef(**method, options_class=options_class)
    return Trial(**{**parcel, "method": ref, "options": options_class.make(parcel["options"])})


def _attribute(target: str, source_sha256: str = "") -> Any:
    where, _, name = target.rpartition(":")
    outside = source_sha256 or where.endswith(".py")
    module = import_source(where, source_sha256) if outside else importlib.import_module(where)
    known = [key for key, value in vars(module).items() if isinstance(value, type)]
    if not hasattr(module, name):
        raise ValueError(f"{where} has no class {name!r}{nearest(name, known)}")
    return getattr(module, name)
