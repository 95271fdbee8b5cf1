"""The command line: quick commands stay quick, and every mistake ends in one clear message and exit code 2."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SMOKE, Program, assert_refused, run_process, snapshot

HEAVY = ("torch", "timm", "transformers", "pandas")

TELL_IMPORTS = """
import sys
from harness.cli import run
try:
    run()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""

HOLD_LOCK = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""

METHODS = ("frozen", "lora", "rein", "spectralmoe")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--help",), ("--suite", "--data-root", "plan", "show")),
        (("list", "tasks"), ("fbp_cs", "NIR,R,G,B")),
        (("list", "backbones"), ("dinov3",)),
        (("list", "methods"), METHODS),
        (("list", "suites"), ("smoke", "all", "controls")),
        (("plan", "--suite", "all", "--results", "/nowhere"), (*METHODS, "planned")),
    ],
    ids=["help", "tasks", "backbones", "methods", "suites", "plan"],
)
def test_quick_commands_answer_without_heavy_imports(args: tuple[str, ...], words: tuple[str, ...]) -> None:
    result = run_process(*args, code=TELL_IMPORTS)
    assert result.exit_code == 0, result.err
    for word in words:
        assert word in result.out
    assert "harness" in result.err.split()
    assert not set(HEAVY) & set(result.err.split())


def test_plan_with_records_marks_them_and_imports_nothing_heavy(smoke_results: Path) -> None:
    before = snapshot(smoke_results)
    result = run_process("plan", *SMOKE, "--seeds", 2, "--results", smoke_results, code=TELL_IMPORTS)
    assert result.exit_code == 0, result.err
    assert result.out.count("cached") == 4 + 1  # four rows and the summary
    assert result.out.count("planned") == 4
    assert not set(HEAVY) & set(result.err.split())
    assert snapshot(smoke_results) == before


@pytest.mark.parametrize("command", ["plan", "list", "tables", "show", "pretrain"])
def test_every_command_has_help(program: Program, command: str) -> None:
    result = program(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.out


def test_without_arguments_the_help_is_shown(program: Program) -> None:
    result = program()
    assert "--suite" in result.out + result.err
    assert "Traceback" not in result.err


WRONG = {
    "suite": (("--suite", "smke"), ("suite", "'smke'", "did you mean 'smoke'?", "controls")),
    "task": ((*SMOKE, "--task", "fbp_c"), ("task", "'fbp_c'", "did you mean 'fbp_cs'?")),
    "method": ((*SMOKE, "--method", "rien"), ("method", "'rien'", "did you mean 'rein'?")),
    "backbone": ((*SMOKE, "--backbone", "dinov"), ("backbone", "'dinov'", "did you mean 'dinov3'?")),
    "scale": (("--suite", "smoke", "--scale", "mni"), ("scale", "'mni'", "did you mean 'mini'?", "paper")),
    "executor": ((*SMOKE, "--executor", "locl"), ("executor", "'locl'", "did you mean 'local'?")),
    "option": ((*SMOKE, "--set", "lora.rnak=4"), ("lora.rnak", "did you mean 'rank'?")),
    "type": ((*SMOKE, "--set", "lora.rank=abc"), ("lora.rank=abc", "integer")),
    "no value": ((*SMOKE, "--set", "lora.rank="), ("lora.rank=", "integer")),
    "too small": ((*SMOKE, "--set", "lora.rank=0"), ("lora.rank=0", "at least 1")),
    "too large": ((*SMOKE, "--set", "lora.dropout=1.5"), ("lora.dropout=1.5", "[0, 1)")),
    "not a choice": ((*SMOKE, "--set", "lora.target=qk"), ("lora.target=qk", "'qv'", "'qkvo'")),
    "not a number": ((*SMOKE, "--set", "rein.scale_init=nan"), ("rein.scale_init", "nan")),
    "contradiction": ((*SMOKE, "--set", "spectralmoe.top_k=9"), ("spectralmoe.top_k=9", "spectralmoe.experts=6")),
    "no dot": ((*SMOKE, "--set", "rank=4"), ("--set rank=4", "method.option=value")),
    "no equals": ((*SMOKE, "--set", "lora.rank"), ("--set lora.rank", "method.option=value")),
    "option of an unknown method": ((*SMOKE, "--set", "lroa.rank=4"), ("lroa.rank=4", "did you mean 'lora'?")),
    "option of an absent method": (
        (*SMOKE, "--method", "frozen", "--set", "lora.rank=4"),
        ("lora", "no trial", "--method"),
    ),
    "preset": ((*SMOKE, "--set", "spectralmoe.preset=relased"), ("preset=relased", "did you mean 'released'?")),
    "seeds": ((*SMOKE, "--seeds", "-1"), ("--seeds -1", "1 or more")),
    "protocol field": ((*SMOKE, "--set", "protocol.stpes=3"), ("protocol.stpes", "did you mean 'steps'?")),
    "protocol type": ((*SMOKE, "--set", "protocol.lr=fast"), ("protocol.lr=fast", "number")),
    "protocol range": ((*SMOKE, "--set", "protocol.lr=-1"), ("protocol.lr=-1", "negative")),
    "protocol nan": ((*SMOKE, "--set", "protocol.lr=nan"), ("protocol.lr", "nan")),
    "protocol length": ((*SMOKE, "--set", "protocol.steps=1"), ("protocol.steps=1", "protocol.evaluations=2")),
    "paper without data": (("--suite", "smoke", "--scale", "paper"), ("scale paper", "--data-root")),
    "suite before plan": (("--suite", "smoke", "plan", "--suite", "smoke"), ("--suite smoke", "plan", "after")),
}


@pytest.mark.parametrize(("args", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_named_with_its_remedy_and_leaves_no_trace(
    program: Program, tmp_path: Path, args: tuple[str, ...], words: tuple[str, ...]
) -> None:
    results = tmp_path / "results"
    result = program("--results", results, *args)
    assert_refused(result, *words)
    assert result.out == ""
    assert not results.exists()


MISSPELT = {
    "--suite smoke --scale test --nope": ("--nope",),
    "--suite smoke --scale test --seeds abc": ("--seeds",),
    "--suite smoke --scale test extra": ("extra",),
    "--suite": ("--suite",),
    "plam": ("plam", "plan"),
    "plan": ("--suite",),
    "plan --suit smoke": ("--suit", "--suite"),
    "list": ("KIND",),
    "list task": ("'task'", "did you mean 'tasks'?"),
    "show": ("KEY",),
    "pretrain dinov4": ("dinov4", "dinov3"),
}


@pytest.mark.parametrize("line", MISSPELT)
def test_misspelt_commands_and_flags_are_user_errors(program: Program, line: str) -> None:
    result = program(*line.split())
    assert result.exit_code == 2, result
    assert "Traceback" not in result.err
    for word in MISSPELT[line]:
        assert word in result.text


def test_a_real_process_ends_with_exit_code_2() -> None:
    assert_refused(run_process("--suite", "smke"), "smoke")


@pytest.mark.parametrize("place", ["below a file", "in proc", "records is a file"])
def test_a_results_folder_that_cannot_be_written_is_refused(program: Program, tmp_path: Path, place: str) -> None:
    results = {"below a file": tmp_path / "file" / "results", "in proc": Path("/proc/dgss-results")}.get(
        place, tmp_path
    )
    (tmp_path / "file").write_text("kept")
    if place == "records is a file":
        (tmp_path / "test").mkdir()
        (tmp_path / "test" / "records").write_text("kept")
    before = snapshot(tmp_path)
    assert_refused(program(*SMOKE, "--results", results), str(results), "cannot be written", "--results DIR")
    assert snapshot(tmp_path) == before


def test_tables_that_cannot_be_written_are_refused(program: Program, smoke_copy: Path) -> None:
    shutil.rmtree(smoke_copy / "test" / "tables")
    (smoke_copy / "test" / "tables").write_text("in the way")
    before = snapshot(smoke_copy)
    for command in (SMOKE, ("tables", "--scale", "test")):
        assert_refused(program(*command, "--results", smoke_copy), str(smoke_copy / "test" / "tables"))
    assert snapshot(smoke_copy) == before


def test_a_second_driver_is_refused_until_the_first_is_gone(program: Program, smoke_copy: Path) -> None:
    before = snapshot(smoke_copy)
    lock = smoke_copy / "test" / ".lock"
    command = [sys.executable, "-c", HOLD_LOCK, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        result = program(*SMOKE, "--fresh", "--results", smoke_copy)
        assert_refused(result, str(smoke_copy), "another run", "--results DIR")
        assert snapshot(smoke_copy) == before
        holder.send_signal(signal.SIGKILL)
    assert program(*SMOKE, "--results", smoke_copy).exit_code == 0


def test_show_needs_one_record(program: Program, smoke_copy: Path, tmp_path: Path) -> None:
    records = smoke_copy / "test" / "records"
    key = min(path.stem for path in records.glob("*.json"))
    shutil.copy(records / f"{key}.json", records / f"{key[:8]}00000000.json")
    before = snapshot(smoke_copy)
    show = ("show", "--scale", "test", "--results")
    assert_refused(program(*show, smoke_copy, key[:8]), "2 records", key[:8], "plan")
    assert_refused(program(*show, smoke_copy, "zzz"), "no record", "'zzz'", str(smoke_copy), "plan")
    assert_refused(program(*show, smoke_copy, "../records/*"), "no record")
    assert_refused(program(*show, tmp_path / "none", key), "no record", key)
    assert snapshot(smoke_copy) == before
    assert not (tmp_path / "none").exists()


def test_tables_need_records(program: Program, tmp_path: Path) -> None:
    results = tmp_path / "results"
    assert_refused(program("tables", "--results", results), str(results), "run a suite", "--results DIR")
    assert not results.exists()


FILES = {
    "no file": (None, "Mine", ("does not exist", "path/to/file.py:Class")),
    "no class": ("class Mien: ...", "Mine", ("no class 'Mine'", "did you mean 'Mien'?")),
    "no method": ("class Mine: ...", "Mine", ("no method", "methods.base.Method")),
    "not a class": ("Mine = 3", "Mine", ("no method",)),
    "no options": ("from methods.base import Method\nclass Mine(Method): ...", "Mine", ("no method", "Options")),
    "bare options": (
        "from methods.base import Method\nfrom methods.options import Options\n"
        "class MineOptions(Options): ...\nclass Mine(Method): Options = MineOptions",
        "Mine",
        ("Options", "name"),
    ),
    "not Python": ("class Mine(:", "Mine", ("syntax",)),
    "import fails": ("import no_such_library", "Mine", ("no_such_library",)),
}


@pytest.mark.parametrize(("source", "name", "words"), FILES.values(), ids=FILES)
def test_a_method_file_that_holds_no_method_is_refused(
    program: Program, tmp_path: Path, source: str | None, name: str, words: tuple[str, ...]
) -> None:
    file, results = tmp_path / "mine.py", tmp_path / "results"
    if source is not None:
        file.write_text(source)
    result = program(*SMOKE, "--results", results, "--method", f"{file}:{name}")
    assert_refused(result, str(file), *words)
    assert not results.exists()


def test_two_methods_of_one_name_are_refused(program: Program, tmp_path: Path) -> None:
    file, results = tmp_path / "mine.py", tmp_path / "results"
    file.write_text(
        "from methods.base import Method\nfrom methods.options import LoraOptions\n"
        "class Mine(Method): Options = LoraOptions\n"
    )
    # one of the two would silently not run
    result = program(*SMOKE, "--results", results, "--method", "lora", "--method", f"{file}:Mine")
    assert_refused(result, "lora", str(file))
    assert not results.exists()
