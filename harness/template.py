"""`python run.py new-method NAME`: a working method and its test, for its author to change. Free of torch."""

from __future__ import annotations

import ast
import keyword
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from harness.plugins import installed
from methods import METHODS, REFUSED

ROOT = Path(__file__).parents[1]
TEMPLATES = Path(__file__).parent / "templates"
"""Real Python files, so that linter and type checker read them too."""
_NAME, _CLASS = "newmethod", "NewMethod"
_LONGEST = 30


def write_method(name: str, folder: Path) -> dict[str, str]:
    """Write `NAME.py` and `test_NAME.py`; nothing that is there is overwritten.

    Args:
        name: the method's name, in snake case.
        folder: where; made if it does not exist.

    Returns:
        What was written, and the next commands by what they are for.

    Raises:
        ValueError: the name will not do, a file of that name exists, or the folder cannot be written.
    """
    cls = _class_name(name)
    files = {folder / path.name.replace(_NAME, name): path for path in sorted(TEMPLATES.glob("*.py"))}
    for path in files:
        if path.exists():
            raise ValueError(f"{path} exists and is not overwritten: choose another NAME, or --out DIR")
    _refuse_taken(name)
    names = {_NAME: name, _CLASS: cls}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in files.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(re.sub(f"{_NAME}|{_CLASS}", lambda found: names[found[0]], template.read_text("utf-8")))
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}): choose another --out DIR") from error
    return {"written": " and ".join(map(str, files)), **_next_steps(folder, name, cls)}


def _next_steps(folder: Path, name: str, cls: str) -> dict[str, str]:
    """Commands that work where they are printed."""
    python, here = Path(sys.executable), Path.cwd() == ROOT
    program = shlex.quote(str(python.relative_to(ROOT) if here and python.is_relative_to(ROOT) else python))
    go, place = ("", folder) if here else (f"cd {shlex.quote(str(ROOT))} && ", folder.resolve())
    method, test = shlex.quote(f"{place / name}.py:{cls}"), shlex.quote(str(place / f"test_{name}.py"))
    return {
        "does it keep to the contract": f"{go}{program} run.py check {method}",
        "its own test": f"{go}{program} -m pytest {test}",
        "compare it": f"{go}{program} run.py --suite smoke --method frozen --method {method}",
    }


def _class_name(name: str) -> str:
    """The class of a method of that name.

    Raises:
        ValueError: the name cannot name a file or its class.
    """
    cls = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    if not (name.isascii() and name.isidentifier() and name[0].isalpha()) or keyword.iskeyword(name):
        raise ValueError(f"method name {name!r} is no Python name: use letters, digits and underscores, a letter first")
    if len(name) > _LONGEST:
        raise ValueError(f"method name {name!r} is too long: {_LONGEST} letters at most")
    if keyword.iskeyword(cls) or {cls, f"{cls}Options"} & _used():
        raise ValueError(f"method name {name!r} gives a class {cls}, whose name is used in its file: choose another")
    return cls


def _refuse_taken(name: str) -> None:
    if name in {*METHODS, *REFUSED, *installed()}:
        raise ValueError(f"there is a method {name!r} already: choose another name (`list methods` shows them)")
    if name in ("all", "protocol"):
        raise ValueError(f"method name {name!r} has a meaning in --method or --set: choose another")
    if find_spec(name):
        raise ValueError(f"method name {name!r} is that of a Python module, which {name}.py would hide: choose another")


def _used() -> set[str]:
    """Names that the templates use themselves."""
    nodes = [node for path in TEMPLATES.glob("*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    imported = {node.name for node in nodes if isinstance(node, ast.alias)}
    return (imported | {node.id for node in nodes if isinstance(node, ast.Name)}) - {_CLASS, f"{_CLASS}Options"}
