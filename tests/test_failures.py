"""Broken methods: a failed record each, the rest finishes, the summary names them; and an interrupt in the middle."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.conftest import TINY, Program, Result, bodies, run_process, run_program, snapshot

HEAD = '''
"""Methods that fail, each in its own way."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from methods.base import Method
from methods.options import Options


def options(called):
    class Named(Options):
        name = called
        title = called.capitalize()
        paper = "none"
        ports = MappingProxyType({"default": "inferred"})

    return Named

'''

METHODS = {
    "raising": """
    def refine(self, x_BND, layer, depth_BMD=None):
        raise RuntimeError("broken on purpose\\nin two lines [bold]and markup[/bold]")
""",
    "nan": """
    def refine(self, x_BND, layer, depth_BMD=None):
        return x_BND * float("nan")
""",
    "shape": """
    def refine(self, x_BND, layer, depth_BMD=None):
        return x_BND[:, 1:]
""",
    "install": """
    def install(self, encoder):
        encoder.no_such_part
""",
    "nanlate": """
    def refine(self, x_BND, layer, depth_BMD=None):
        return x_BND if self.training else x_BND * float("nan")
""",
    "nanaux": """
    def refine(self, x_BND, layer, depth_BMD=None):
        return x_BND, x_BND.sum() * float("nan")
""",
    "text": """
    def refine(self, x_BND, layer, depth_BMD=None):
        return "tokens"
""",
}

SAID = {
    "raising": ("RuntimeError", "broken on purpose"),
    "nan": ("Error", "nan"),
    "shape": ("ValueError", "shape.refine returned shape"),
    "install": ("AttributeError", "no_such_part"),
    "nanlate": ("Error", "nan"),
    "nanaux": ("FloatingPointError", "nan"),
    "text": ("Error", ""),
}
IN_FILE = ("raising", "install")
"""Where the traceback must lead to the method's own file; the others are caught in the harness."""

INTERRUPT = """
    steps = 0

    def after_step(self, step):
        self.steps = step

    def refine(self, x_BND, layer, depth_BMD=None):
        if self.steps == 1 and Path(os.environ["STOP_FILE"]).exists():
            raise KeyboardInterrupt
        return x_BND
"""


def write(path: Path, methods: dict[str, str]) -> Path:
    """A file with one class per method."""
    classes = [f"class {n.capitalize()}(Method):\n    Options = options({n!r})\n{m}" for n, m in methods.items()]
    path.write_text(HEAD + "\n\n".join(classes))
    return path


def filters(file: Path, *names: str) -> list[str]:
    """`--method` for methods of the file."""
    return [word for name in names for word in ("--method", f"{file}:{name.capitalize()}")]


def by_method(results: Path) -> dict[str, dict[str, object]]:
    """Records' JSON by the method's name."""
    return {body["result"]["inputs"]["method"]: body for body in bodies(results).values()}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Result]:
    """A run of all broken methods between two sound ones: results folder, its arguments, how it ended."""
    folder = tmp_path_factory.mktemp("broken")
    file = write(folder / "broken.py", METHODS)
    args = [*TINY, "--results", str(folder / "results"), "--method", "frozen", "--method", "lora"]
    args += filters(file, *METHODS)
    return folder / "results", args, run_program(*args)


def test_the_exit_code_tells_that_a_trial_failed(broken: tuple[Path, list[str], Result]) -> None:
    assert broken[2].exit_code == 1, broken[2]


def test_the_other_trials_finish(broken: tuple[Path, list[str], Result]) -> None:
    records = by_method(broken[0])
    assert set(records) == {"frozen", "lora", *METHODS}
    assert records["frozen"]["status"] == records["lora"]["status"] == "done"
    (table,) = (broken[0] / "test" / "tables").glob("*.md")
    assert "LoRA" in table.read_text()
    assert "Raising" not in table.read_text()


@pytest.mark.parametrize("name", METHODS)
def test_a_broken_method_leaves_a_failed_record(broken: tuple[Path, list[str], Result], name: str) -> None:
    body = by_method(broken[0])[name]
    assert body["status"] == "failed"
    error = body["error"]
    assert isinstance(error, dict)
    kind, message = SAID[name]
    assert kind in error["type"]
    assert message in error["message"].lower() or message in error["message"]
    assert error["traceback"].startswith("Traceback")
    assert error["type"] in error["traceback"]
    assert ("broken.py" in error["traceback"]) or name not in IN_FILE
    assert "selections" not in body["result"]  # type: ignore[operator]
    assert not list((broken[0] / "test" / "records").glob(f"{body['key']}.safetensors"))


def summary(result: Result) -> list[str]:
    """The lines at the end that name failed trials."""
    return [line for line in result.out.splitlines() if "run.py show" in line]


@pytest.mark.parametrize("name", METHODS)
def test_the_summary_names_what_failed(broken: tuple[Path, list[str], Result], name: str) -> None:
    lines = [line for line in summary(broken[2]) if f" · {name} · " in line]
    assert len(lines) == 1, broken[2].out
    assert lines[0].startswith("failed")
    assert SAID[name][0] in lines[0]


def test_the_command_that_the_summary_gives_shows_the_traceback(
    broken: tuple[Path, list[str], Result], program: Program
) -> None:
    command = re.search(r"python run\.py (show [^),;]*)", summary(broken[2])[0])
    assert command
    shown = program(*command[1].split())
    assert shown.exit_code == 0, shown.err
    assert "Traceback" in shown.out


def test_show_prints_the_traceback(broken: tuple[Path, list[str], Result], program: Program) -> None:
    body = by_method(broken[0])["raising"]
    result = program("show", body["key"], "--scale", "test", "--results", broken[0])
    assert result.exit_code == 0
    assert "failed" in result.out
    assert "broken.py" in result.out
    assert "[bold]and markup[/bold]" in result.out


def test_again_runs_only_what_failed(broken: tuple[Path, list[str], Result], program: Program) -> None:
    results, args, _ = broken
    done = {body["key"] for body in bodies(results).values() if body["status"] == "done"}
    before = {name: value for name, value in snapshot(results / "test" / "records").items() if name[:16] in done}
    result = program(*args)
    assert result.exit_code == 1
    assert f"{len(done)} cached, {len(METHODS) + 2 - len(done)} to run" in result.text
    after = snapshot(results / "test" / "records")
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("own_process", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_mended_method_succeeds(program: Program, tmp_path: Path, own_process: bool) -> None:
    run = run_process if own_process else program
    file = write(tmp_path / "mine.py", {"mine": METHODS["raising"]})
    args = (*TINY, "--results", tmp_path / "results", *filters(file, "mine"))
    assert run(*args).exit_code == 1
    write(file, {"mine": "    pass"})
    result = run(*args)
    assert result.exit_code == 0, result
    assert "0 cached, 1 to run" in result.text
    assert sorted(str(body["status"]) for body in bodies(tmp_path / "results").values()) == ["done", "failed"]


def test_an_interrupt_keeps_what_is_finished_and_says_how_to_go_on(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = tmp_path / "stop"
    stop.touch()
    monkeypatch.setenv("STOP_FILE", str(stop))
    file, results = write(tmp_path / "mine.py", {"mine": INTERRUPT}), tmp_path / "results"
    args = ("--suite", "fair", "--task", "fbp_cs", "--backbone", "dinov3", "--seeds", 1, *TINY[2:])
    args += ("--results", results, "--method", "lora", *filters(file, "mine"), "--method", "frozen")
    result = program(*args)
    assert result.exit_code == 130, result
    assert "Traceback" not in result.err
    assert "interrupted" in result.err
    assert "the same command" in result.err
    assert {name: body["status"] for name, body in by_method(results).items()} == {"lora": "done"}
    before = snapshot(results / "test" / "records")
    assert {name.partition(".")[2] for name in before} == {
        "json",
        "safetensors",
        "weights.safetensors",
        "panels.safetensors",
    }

    stop.unlink()
    result = program(*args)
    assert result.exit_code == 0, result
    assert "1 cached, 2 to run" in result.text
    assert set(by_method(results)) == {"lora", "mine", "frozen"}
    after = snapshot(results / "test" / "records")
    assert {name: after[name] for name in before} == before


def test_an_interrupted_fresh_run_keeps_the_old_record(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = tmp_path / "stop"
    monkeypatch.setenv("STOP_FILE", str(stop))
    file, results = write(tmp_path / "mine.py", {"mine": INTERRUPT}), tmp_path / "results"
    args = (*TINY, "--results", results, *filters(file, "mine"))
    assert program(*args).exit_code == 0
    before = snapshot(results / "test" / "records")
    stop.touch()
    assert program(*args, "--fresh").exit_code == 130
    assert snapshot(results / "test" / "records") == before


@pytest.mark.parametrize("answer", ["pass", "raise ImportError('no such part')"])
def test_an_interrupt_that_a_library_swallows_or_wraps_is_still_one(
    program: Program, tmp_path: Path, answer: str
) -> None:
    """What some libraries do with Ctrl-C while they are being imported."""
    method = f"""
    def install(self, encoder):
        try:
            __import__("signal").raise_signal(2)
        except BaseException:
            {answer}
"""
    file, results = write(tmp_path / "mine.py", {"mine": method}), tmp_path / "results"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = program(*TINY, "--results", results, *filters(file, "mine"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130, result
    assert "interrupted" in result.err
    assert not list((results / "test" / "records").glob("*.json"))
