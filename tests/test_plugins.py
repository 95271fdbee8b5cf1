"""Methods of installed packages: found by their entry point, lazily, and their code is part of the trial key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.lookup import find_method, load_class, pack, unpack
from harness.plan import Request, make_plan
from harness.sources import fingerprint
from harness.trial import Trial
from tests.conftest import SMOKE, TINY, Program, assert_refused, bodies, run_process
from tests.distributions import METHOD, PARTS, gain, install
from tests.test_cli import HEAVY, TELL_IMPORTS


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path, here and in new processes."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def planned(*methods: str) -> dict[str, Trial]:
    """The trials of the smoke suite with some methods, by name."""
    plan = make_plan(Request(suite="smoke", scale="test", methods=methods), None)
    return {item.trial.method.name: item.trial for item in plan.trials}


def test_a_new_process_finds_an_installed_method(site: Path) -> None:
    install(site, {"gain": "process_gain.method:Gain"}, gain("process_gain"))
    result = run_process("plan", *SMOKE, "--method", "gain", "--method", "frozen", "--set", "gain.start=2")
    assert result.exit_code == 0, result
    assert "fbp_cs · dinov3 · gain (start=2.0)" in result.text
    assert "fbp_cs · dinov3 · frozen" in result.text


def test_listing_tells_where_it_comes_from_and_imports_nothing_of_it(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    install(site, {"gain": "listed_gain.method:Gain"}, gain("listed_gain"))
    listed = run_process("list", "methods", code=TELL_IMPORTS)
    assert listed.exit_code == 0, listed
    assert "gain" in listed.out.split()
    assert "plug-in of outside 1.0" in listed.text
    assert not {*HEAVY, "listed_gain"} & set(listed.err.split())
    unnamed = run_process("plan", *SMOKE, code=TELL_IMPORTS)
    assert not {*HEAVY, "listed_gain"} & set(unnamed.err.split())
    assert " gain " not in unnamed.out, "a plug-in takes part only where it is named"


def test_its_facts_are_listed_on_request(program: Program, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert program("list", "plugins").text == "no plugins"
    install(site, {"gain": "facts_gain.method:Gain"}, gain("facts_gain"))
    result = program("list", "plugins")
    assert result.exit_code == 0
    for word in ("gain", "Gain from outside", "default (author_checked)", "facts_gain.method:Gain of outside 1.0"):
        assert word in result.text
    assert not result.err


def test_it_is_run_and_shown_like_any_other(program: Program, site: Path, tmp_path: Path) -> None:
    install(site, {"gain": "run_gain.method:Gain"}, gain("run_gain"))
    results = tmp_path / "results"
    result = program(*TINY, "--method", "gain", "--method", "frozen", "--results", results)
    assert result.exit_code == 0, result
    (table,) = (results / "test" / "tables").glob("*.md")
    assert "Gain from outside" in table.read_text()
    (found,) = (b["result"]["inputs"] for b in bodies(results).values() if b["result"]["inputs"]["method"] == "gain")
    assert found["method_source_sha256"] == fingerprint("run_gain.method")
    again = program(*TINY, "--method", "gain", "--method", "frozen", "--results", results)
    assert "2 cached, 0 to run" in again.text


def test_it_is_counted_and_checked(program: Program, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, {"gain": "counted_gain.method:Gain"}, gain("counted_gain"))
    result = program("params", "--method", "gain", "--backbone", "dinov3", "--format", "json")
    assert [row["adapter"] for row in json.loads(result.out)] == [24 * 1024]
    examined: list[str] = []

    def note(trial: Trial, on_check: object) -> dict[str, str]:
        examined.append(trial.method.target)
        return {"runs": ""}

    monkeypatch.setattr("harness.conformance.examine", note)
    assert program("check", "gain", "--backbone", "dinov3").exit_code == 0
    assert examined == ["counted_gain.method:Gain"]


@pytest.mark.slow
def test_a_worker_finds_it_too(program: Program, site: Path, tmp_path: Path) -> None:
    install(site, {"gain": "worker_gain.method:Gain"}, gain("worker_gain"))
    args = (*TINY, "--method", "gain", "--executor", "ray", "--workers", 1, "--results", tmp_path)
    result = program(*args)
    assert result.exit_code == 0, result
    assert "trials: 1 done" in result.text
    assert "Gain from outside" in result.text


# --- the trial key


def test_the_key_follows_the_code_of_the_whole_package_not_its_place_or_version(site: Path) -> None:
    install(site, {"gain": "keyed_gain.method:Gain"}, gain("keyed_gain"))
    (site / "keyed_gain" / "notes.txt").write_text("no code")
    before = fingerprint("keyed_gain.method")
    assert planned("gain")["gain"].inputs()["method_source_sha256"] == before
    (site / "keyed_gain" / "notes.txt").write_text("no code either")
    (site / "outside-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 2.0\n")
    assert fingerprint("keyed_gain.method") == before
    (site / "keyed_gain" / "parts.py").write_text("START = 3.0\n")
    edited = fingerprint("keyed_gain.method")
    (site / "keyed_gain" / "parts.py").write_text(PARTS)
    shutil.copytree(site / "keyed_gain", site / "moved_gain")
    assert fingerprint("moved_gain.method") == before
    (site / "keyed_gain" / "parts.py").rename(site / "keyed_gain" / "other.py")
    assert len({before, edited, fingerprint("keyed_gain.method")}) == 3


def test_a_lone_module_and_a_package_in_a_namespace_are_hashed_by_their_own_code(site: Path) -> None:
    lone = METHOD.replace("from .parts import START", "START = 1.0")
    install(site, {"gain": "lone_gain:Gain"}, {"lone_gain.py": lone})
    files = {f"company/{name}": text for name, text in (gain("space_gain") | {"other/code.py": ""}).items()}
    install(site, {"space": "company.space_gain.method:Gain"}, files, called="spaced")
    trial = planned("gain")["gain"]
    assert trial.method.source_sha256 == fingerprint(str(site / "lone_gain.py"))
    before = fingerprint("company.space_gain.method")
    (site / "company" / "other" / "code.py").write_text("changed = True\n")
    assert fingerprint("company.space_gain.method") == before, "another distribution's part of the namespace"
    (site / "company" / "space_gain" / "parts.py").write_text("START = 3.0\n")
    assert fingerprint("company.space_gain.method") != before


def test_code_that_changed_since_the_plan_is_refused(site: Path) -> None:
    install(site, {"gain": "late_gain.method:Gain"}, gain("late_gain"))
    trial = planned("gain")["gain"]
    assert unpack(pack(trial)) == trial
    (site / "late_gain" / "parts.py").write_text("START = 3.0\n")
    with pytest.raises(ValueError, match=r"late_gain\.method has changed since the plan was made: run the command"):
        unpack(pack(trial))
    # a plan made now would have the new hash, but this process has the old modules
    with pytest.raises(ValueError, match=r"late_gain\.method has changed since it was imported: run the command"):
        find_method("gain")


def test_two_classes_of_one_source_are_two_methods(tmp_path: Path) -> None:
    source = METHOD.replace("from .parts import START", "START = 1.0")
    (tmp_path / "mine.py").write_text(source + "\n\nclass Other(Gain):\n    identity_at_init = False\n")
    one, other = (planned(f"{tmp_path / 'mine.py'}:{cls}")["gain"] for cls in ("Gain", "Other"))
    assert one.options == other.options
    assert one.key != other.key


# --- what is wrong with one stays with it


BROKEN = {
    "raises": ("raises.method:Gain", "1 / 0\n", ("raises.method", "cannot be imported", "ZeroDivisionError", "line 1")),
    "lacks": ("lacks.method:Gain", "import no_such_library\n", ("lacks.method", "no_such_library")),
    "classless": ("classless.method:Gian", METHOD, ("classless.method", "'Gian'", "did you mean 'Gain'?")),
    "aimless": ("aimless.method:START", METHOD, ("aimless.method:START", "is no method")),
    "misnamed": ("misnamed.method:Gain", METHOD, ("misnamed", "'gain'", "Options", "outside 1.0")),
    "absent": ("no_such_package.method:Gain", "", ("no_such_package.method", "does not exist")),
    "sourceless": ("sys:Gain", "", ("plug-in module sys", "no source files")),
    "no_class": ("no_class.method", METHOD, ("no_class", "outside 1.0", "module:Class")),
}
"""Name -> its target, its module's text, what must be said."""


@pytest.fixture
def broken(site: Path) -> Path:
    """Broken plug-ins beside a sound one, all of one distribution."""
    points = {name: target for name, (target, _, _) in BROKEN.items()}
    files = gain("whole_gain")
    for name, (_, text, _) in BROKEN.items():
        files |= {**gain(name), f"{name}/method.py": text}
    return install(site, {"gain": "whole_gain.method:Gain", **points}, files)


def test_a_broken_one_is_refused_only_where_it_is_used(program: Program, broken: Path, tmp_path: Path) -> None:
    for name, (_, _, words) in BROKEN.items():
        assert_refused(program(*SMOKE, "--method", name, "--results", tmp_path / "results"), *words)
    assert not (tmp_path / "results").exists()
    result = program("plan", *SMOKE, "--method", "gain")
    assert result.exit_code == 0, result


def test_broken_ones_are_warned_about_in_lists(program: Program, broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    methods = program("list", "methods")
    assert methods.exit_code == 0, methods
    assert methods.err.count("WARNING") == 3, "what shows without an import"
    plugins = program("list", "plugins")
    assert plugins.exit_code == 0, plugins
    assert "whole_gain.method:Gain of outside 1.0" in plugins.out
    assert plugins.err.count("WARNING") == len(BROKEN)
    for name, (_, _, words) in BROKEN.items():
        for word in words:
            assert word in plugins.text, name
    for name in ("absent", "sourceless", "no_class"):
        for word in BROKEN[name][2]:
            assert word in methods.text


def test_a_name_in_use_is_refused_with_both_owners(
    program: Program, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    install(site, {"gain": "first.method:Gain", "lora": "first.method:Gain"}, gain("first"), called="first")
    install(site, {"gain": "second.method:Gain"}, gain("second"), called="second")
    owners = {
        "gain": ("first.method:Gain of first 1.0", "second.method:Gain of second 1.0"),
        "lora": ("methods.lora:Lora, built in", "first.method:Gain of first 1.0"),
    }
    listed = program("list", "methods")
    assert "Hu et al., LoRA" in listed.out, "the built-in one is listed"
    for name, words in owners.items():
        assert_refused(program("plan", *SMOKE, "--method", name), f"2 methods are called {name!r}", *words)
        for word in words:
            assert word in listed.err
    unnamed = program("plan", *SMOKE)
    assert unnamed.exit_code == 0
    assert " · lora · " in unnamed.out, "suites stand by the built-in ones"


def test_an_unknown_name_is_answered_with_the_nearest_plug_in(program: Program, site: Path) -> None:
    install(site, {"gain": "near_gain.method:Gain"}, gain("near_gain"))
    assert_refused(program("plan", *SMOKE, "--method", "gian"), "unknown method 'gian'", "did you mean 'gain'?")


def test_a_file_must_not_run_under_the_name_of_a_built_in(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from methods.lora import Lora\n\nclass Mine(Lora): ...\n")
    method = f"{tmp_path / 'mine.py'}:Mine"
    assert_refused(program(*TINY, "--method", method, "--results", tmp_path / "r"), "'lora'", "methods.lora", "mine.py")
    assert load_class(method).Options.name == "lora", "`check` and `params`, which leave no record, take it"
    assert program("params", "--method", method, "--backbone", "dinov3").exit_code == 0


# --- an edited file


EDITABLE = """
from types import MappingProxyType

import torch
from torch import nn

from methods.base import Method
from methods.options import Options

FACTOR = 1


class MineOptions(Options):
    name = "mine"
    title = "Mine"
    paper = "none"
    ports = MappingProxyType({"default": "inferred"})


class Mine(Method):
    Options = MineOptions

    def __init__(self, spec, options):
        super().__init__(spec, options)
        self.gain = nn.Parameter(torch.ones(FACTOR, spec.blocks, spec.width))

    def refine(self, x_BND, layer, depth_BMD=None):
        return x_BND * self.gain[:, layer].prod(0)
"""


def test_an_edited_file_makes_new_trials_and_leaves_no_stale_row(program: Program, tmp_path: Path) -> None:
    file, results = tmp_path / "mine.py", tmp_path / "results"
    args = (*TINY, "--method", f"{file}:Mine", "--results", results)

    def run(text: str, cached: int, code: int = 0) -> list[str]:
        """Parameters of the row of `mine` in the table, if there is one."""
        file.write_text(text)
        result = program(*args)
        assert result.exit_code == code, result
        assert f"{cached} cached, {1 - cached} to run" in result.text
        rows = [line for path in (results / "test" / "tables").glob("*.md") for line in path.read_text().splitlines()]
        return [row.split("|")[2].strip() for row in rows if row.startswith("| Mine ")]

    doubled = EDITABLE.replace("FACTOR = 1", "FACTOR = 2")
    assert run(EDITABLE, 0) == ["0.6 k"]
    assert run(doubled, 0) == ["1.2 k"]
    assert run(doubled, 1) == ["1.2 k"]
    assert run(EDITABLE, 1) == ["0.6 k"], "back again: its record is still there, and newer ones are stale"
    assert run(EDITABLE.replace("FACTOR = 1", "FACTOR = 1 / 0.5"), 0, code=1) == [], "no number stands for a failure"
    program("tables", "--scale", "test", "--results", results)
    (table,) = (results / "test" / "tables").glob("*.md")
    assert "1.2 k" in table.read_text(), "from records alone, a failure takes no row away"
    assert run(doubled, 1) == ["1.2 k"]
    assert len(bodies(results)) == 3
