"""Methods' code from outside the checkout, a file or an installed package: hashed, and imported by that hash."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from harness.trial import canonical

_imported: dict[str, str] = {}
"""Installed packages that this process has imported, and the hash they had then."""


def fingerprint(where: str) -> str:
    """SHA-256 of the code of a file, or of the whole package that a module belongs to. Imports nothing of it.

    Of a package it is over the relative path and the content of every `*.py` file: a method is often spread over
    modules, and the version of an editable install does not change with them. Places do not count.

    Args:
        where: `path/to/file.py`, or `package.module`.

    Raises:
        ValueError: there is no such code.
    """
    files = sources(where)
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return hashes[""] if list(hashes) == [""] else hashlib.sha256(canonical(hashes).encode()).hexdigest()


def sources(where: str) -> dict[str, Path]:
    """The Python files that `fingerprint` reads, by path relative to their package; a lone file has none."""
    if where.endswith(".py"):
        return {"": Path(where)}
    _, files = _package(where)
    return files


def import_source(where: str, sha256: str = "", kind: str = "method") -> ModuleType:
    """Import a file or a module from outside.

    Args:
        where: `path/to/file.py`, or `package.module`.
        sha256: what its code must hash to; empty for any.
        kind: what a file holds, for messages.

    Raises:
        ValueError: it has changed, or cannot be imported.
    """
    what = f"{kind} file {where}" if where.endswith(".py") else f"plug-in module {where}"
    if sha256 and fingerprint(where) != sha256:
        raise ValueError(f"{what} has changed since the plan was made: run the command again")
    if where.endswith(".py"):
        return _import_file(Path(where), what)
    package, _ = _package(where)
    if _imported.get(package, sha256) != sha256:
        # Python keeps the modules of a package for the life of the process
        raise ValueError(f"{what} has changed since it was imported: run the command again")
    with _told(where, what):
        module = importlib.import_module(where)
    _imported[package] = sha256
    return module


def place(error: BaseException, where: str) -> str:
    """The line of a method's own code that led to an error, as the end of a message; empty if none did."""
    own = {str(path) for path in sources(where).values()}
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
    return f" (line {lines[-1].lineno} of {Path(lines[-1].filename).name})" if lines else ""


def _package(module: str) -> tuple[str, dict[str, Path]]:
    """The outermost package with code of its own that a module belongs to, or the module itself; and its files."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        spec = find_spec(name)  # imports parents, which are namespaces without code
        if spec is None:
            break
        if spec.origin:
            folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
            files = {p.relative_to(folder).as_posix(): p for folder in folders for p in folder.rglob("*.py")}
            files = files if folders else {"": Path(spec.origin)}
            if not files or not all(path.is_file() for path in files.values()):
                raise ValueError(f"plug-in module {module} has no source files: install its package unpacked")
            return name, files
    raise ValueError(f"plug-in module {module} does not exist: install its package again, or uninstall it")


def _import_file(path: Path, what: str) -> ModuleType:
    source = path.read_bytes()
    # by source, so that a mended file is never answered from the modules of a long-lived process
    name = f"dgss_external_{hashlib.sha256(str(path).encode() + source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        with _told(str(path), what):
            exec(compile(source, path, "exec"), module.__dict__)
    except ValueError:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _told(where: str, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # code from outside may raise anything
        said = f"{type(error).__name__}: {error}{place(error, where)}"
        raise ValueError(f"{what} cannot be imported ({said}): mend it") from error
