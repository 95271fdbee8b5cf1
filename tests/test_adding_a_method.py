"""A new method: what `new-method` writes works untouched, and the example of the guide is what the guide says."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from harness.conformance import CHECKS
from methods.base import Method
from methods.options import Options
from tests.conftest import ROOT, Program, assert_refused, contents
from tests.documents import example

GUIDE = ROOT / "docs" / "adding_a_method.md"
SHOWN_ON = ("dinov3", "sam")


def linted(*command: str, folder: Path) -> None:
    """Ruff with the project's settings has nothing to say."""
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", str(ROOT / "pyproject.toml"), str(folder)]
    ended = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_the_test_that_is_written_passes(program: Program, tmp_path: Path) -> None:
    """It holds the conformance suite."""
    assert program("new-method", "snow_gate", "--out", tmp_path).exit_code == 0
    command = [sys.executable, "-m", "pytest", "-q", str(tmp_path / "test_snow_gate.py")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stdout
    assert "6 passed" in ended.stdout


@pytest.mark.parametrize(("name", "cls"), [("a", "A"), ("snow_gate", "SnowGate"), ("newmethods", "Newmethods")])
def test_a_written_method_runs_by_the_command_it_tells(program: Program, tmp_path: Path, name: str, cls: str) -> None:
    folder = tmp_path / "in a folder"
    result = program("new-method", name, "--out", folder)
    assert result.exit_code == 0, result
    assert set(contents(folder)) == {f"{name}.py", f"test_{name}.py"}
    assert f" run.py check '{folder}/{name}.py:{cls}'\n" in result.out
    assert f" -m pytest '{folder}/test_{name}.py'\n" in result.out
    planned = program("plan", "--suite", "smoke", "--method", f"{folder}/{name}.py:{cls}", "--set", f"{name}.rank=4")
    assert f"{name} (rank=4)" in planned.text, planned
    text = "".join(path.read_text() for path in folder.iterdir())
    assert "newmethod" not in text.lower().replace(name.replace("_", ""), "").replace(name, "")


def test_it_is_linted_whatever_the_length_of_the_name(program: Program, tmp_path: Path) -> None:
    for name in ("a", "snow_gate", "a_name_of_thirty_letters_or_so"):
        assert program("new-method", name, "--out", tmp_path).exit_code == 0
    linted("check", folder=tmp_path)
    linted("format", "--check", folder=tmp_path)


@pytest.mark.parametrize("there", ["mine.py", "test_mine.py"])
def test_nothing_is_overwritten(program: Program, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("kept")
    assert_refused(program("new-method", "mine", "--out", tmp_path), str(tmp_path / there), "not overwritten", "--out")
    assert contents(tmp_path) == {there: b"kept"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("2d", ("'2d'", "letters, digits and underscores")),
        ("my-method", ("'my-method'", "letters, digits and underscores")),
        ("../mine", ("'../mine'", "no Python name")),
        ("_mine", ("'_mine'", "a letter first")),
        ("class", ("'class'", "no Python name")),
        ("", ("''", "no Python name")),
        ("naïve", ("letters, digits",)),
        ("true", ("'true'", "class True")),
        ("method", ("'method'", "class Method", "choose another")),
        ("lora", ("a method 'lora' already", "list methods")),
        ("torch", ("'torch'", "Python module", "torch.py")),
        ("all", ("'all'", "--method")),
        ("a" * 31, ("too long", "30")),
    ],
)
def test_a_name_that_will_not_do_is_refused(
    program: Program, tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    assert_refused(program("new-method", name, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    assert_refused(program("new-method", "mine", "--out", tmp_path / "file"), str(tmp_path / "file"), "--out DIR")


# --- the guide


def test_the_example_of_the_guide_passes(program: Program, tmp_path: Path) -> None:
    method = example(GUIDE, "Local", tmp_path)
    assert len(Path(method.rpartition(":")[0]).read_text().splitlines()) < 40
    result = program("check", method, *(word for name in SHOWN_ON for word in ("--backbone", name)))
    assert result.exit_code == 0, result
    assert result.out.count(" ok") == len(CHECKS) * len(SHOWN_ON)


def test_guide_and_template_name_every_choice_and_the_guide_every_check() -> None:
    template = (ROOT / "harness" / "templates" / "newmethod.py").read_text()
    guide = GUIDE.read_text()
    sealed = {"adapt", "on_grid", "observe", "overrides", "Options"}
    hooks = {name for name in vars(Method) if not name.startswith("_")} - sealed
    assert {"refine", "install", "identity_at_init"} <= hooks
    inherited = {"make", "port", *(field.name for field in dataclasses.fields(Options))}
    facts = {n for n in (*vars(Options), *Options.__annotations__) if not n.startswith("_")} - inherited
    assert {"name", "ports", "needs_depth", "lr_scale"} <= facts
    for choice in hooks | facts:
        assert choice in template, choice
        assert f"`{choice}" in guide, choice
    for check in CHECKS:
        assert f"\n| {check} |" in guide, check
