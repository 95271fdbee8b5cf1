"""The plan: what a trial's key depends on, what is cached, and that random streams do not disturb one another."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from benchmarks.catalogue import TASKS
from benchmarks.suites import SUITES, Cell, Suite
from harness import zoo
from harness.plan import Plan, Request, make_plan
from harness.records import RecordStore
from harness.trial import Trial, digest, stream_seed
from tests.conftest import Program, bodies
from tests.fbp_files import write_fbp

EXTERNAL = '''
"""A method from outside, with one option."""

from dataclasses import dataclass
from types import MappingProxyType

from methods.base import Method
from methods.options import Options


@dataclass(frozen=True, kw_only=True)
class MineOptions(Options):
    """One option."""

    name = "mine"
    title = "Mine"
    paper = "none"
    ports = MappingProxyType({"default": "inferred"})

    gain: float = 1.0


class Mine(Method):
    """Does nothing."""

    Options = MineOptions
'''


def planned(**words: Any) -> Plan:
    """The plan of the smoke suite at scale test, or of what the words say, without records."""
    return make_plan(Request(**{"suite": "smoke", "scale": "test", **words}), None)


def trials(**words: Any) -> dict[str, Trial]:
    """Trials of a plan with one seed, by method."""
    return {item.trial.method.name: item.trial for item in planned(**words).trials}


def keys(**words: Any) -> list[str]:
    """Keys of a plan."""
    return [item.trial.key for item in planned(**words).trials]


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A file with a method."""
    path = tmp_path / "mine.py"
    path.write_text(EXTERNAL)
    return path


def newer_task(patch: pytest.MonkeyPatch, _: Path) -> None:
    """The task's next version."""
    patch.setitem(TASKS, "fbp_cs", replace(TASKS["fbp_cs"], version=99))


def other_weights(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Shipped weights with one more byte."""
    shutil.copytree(zoo.WEIGHTS, folder / "weights")
    for path in (folder / "weights").iterdir():
        path.write_bytes(path.read_bytes() + b"\0")
    patch.setattr(zoo, "WEIGHTS", folder / "weights")


def newer_method(patch: pytest.MonkeyPatch, _: Path) -> None:
    """LoRA's next version."""
    from methods.options import LoraOptions

    patch.setattr(LoraOptions, "version", 99)


def other_scenes(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Other data behind the same name."""
    task = TASKS["fbp_cs"]
    assert task.embedded
    patch.setitem(TASKS, "fbp_cs", replace(task, embedded=replace(task.embedded, opener=f"{__name__}:open_other")))


class OtherScenes:
    """As much of a reader as planning needs."""

    fingerprint = "another one"


def open_other(_: object) -> OtherScenes:
    """An opener for a `DataSource`."""
    return OtherScenes()


@pytest.mark.parametrize("change", [newer_task, other_weights, newer_method, other_scenes])
def test_the_key_changes_with_what_lies_behind_the_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: Callable[[pytest.MonkeyPatch, Path], None]
) -> None:
    before = keys(methods=["lora"])
    assert keys(methods=["lora"]) == before
    change(monkeypatch, tmp_path)
    assert keys(methods=["lora"]) != before


def test_depth_weights_count_only_where_depth_is_read() -> None:
    found = trials()
    assert set(found["spectralmoe"].weights) == {"dinov3", "depth"}
    assert set(found["rein"].weights) == {"dinov3"}


def test_the_key_changes_with_options_protocol_seed_and_method() -> None:
    variants = [
        {},
        {"settings": ["lora.rank=4"]},
        {"settings": ["lora.target=qkvo"]},
        {"settings": ["protocol.lr=0.001"]},
        {"methods": ["rein"]},
        {"methods": ["rein"], "settings": ["protocol.queries=plain"]},
        {"settings": ["protocol.encoder_init=random"]},
        {"scale": "mini"},
        {"methods": ["frozen"]},
    ]
    found = [key for variant in variants for key in keys(**{"methods": ["lora"], **variant})]
    found += keys(methods=["lora"], seeds=3)[1:]
    assert len(set(found)) == len(variants) + 2
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in found)


def test_controls_that_cannot_matter_change_neither_key_nor_label() -> None:
    plain = trials(settings=["protocol.queries=plain", "protocol.depth=shuffled", "protocol.depth_pairing=same"])
    for name, trial in trials().items():
        matters = name in ("rein", "spectralmoe")
        assert (plain[name].key != trial.key) is matters
        assert bool(plain[name].labels()["controls"]) is matters
        assert ("depth=" in plain[name].labels()["controls"]) is (name == "spectralmoe")
        assert ("depth_pairing" in plain[name].labels()["controls"]) is (name == "spectralmoe")


def test_the_key_forgets_paths_and_workers(tmp_path: Path) -> None:
    write_fbp(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "else" / "where")
    here, there = trials(data_root=tmp_path / "here")["rein"], trials(data_root=tmp_path / "else" / "where")["rein"]
    assert here.data_root != there.data_root
    assert here.key == there.key
    assert replace(here, scale=replace(here.scale, loader_workers=7)).key == here.key
    assert str(tmp_path) not in json.dumps(here.inputs())


def test_the_key_changes_with_files(tmp_path: Path) -> None:
    tile = next(iter(write_fbp(tmp_path).values()))
    before = keys(data_root=tmp_path)
    tile.image_path.write_bytes(tile.image_path.read_bytes() + b"\0")
    assert not set(keys(data_root=tmp_path)) & set(before)


def test_whole_numbers_hash_alike_however_they_are_written() -> None:
    assert digest({"lr": 1, "sizes": [2, 3.0]}) == digest({"sizes": [2.0, 3], "lr": 1.0})
    assert digest({"lr": 1}) != digest({"lr": 1.5})
    assert digest({"flag": True}) != digest({"flag": 1})
    assert digest({"text": "1"}) != digest({"text": 1})
    plain, exact, scientific = (keys(settings=[f"protocol.lr={text}"]) for text in ("1", "1.0", "1e0"))
    assert plain == exact == scientific


def test_the_key_is_the_hash_of_the_inputs_in_the_record(smoke_results: Path) -> None:
    for key, body in bodies(smoke_results).items():
        assert digest(body["result"]["inputs"]) == key


def test_cells_that_come_to_the_same_are_one_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    # with the setting, all of the suite's cells ask for the same preset
    chosen: dict[str, Any] = {"suite": "fair", "tasks": ["fbp_cs"], "methods": ["spectralmoe"], "seeds": 1}
    chosen["backbones"] = ["dinov3"]
    assert len(keys(**chosen)) == 2
    same = keys(**chosen, settings=["spectralmoe.preset=released"])
    assert len(same) == len(set(same)) == 1
    cells = (Cell(method="lora"), Cell(task="fbp_cs", method="lora", options={"rank": 8}), Cell(method="lora"))
    monkeypatch.setitem(SUITES, "twice", Suite(name="twice", title="", cells=cells, seeds=2))
    assert len(keys(suite="twice", tasks=["fbp_cs"], backbones=["dinov3"])) == 2


def test_a_variant_is_a_row_of_its_own_unless_it_says_what_the_default_says() -> None:
    def variant(name: str) -> Trial:
        return trials(methods=["spectralmoe"], settings=[f"spectralmoe.variant={name}"])["spectralmoe"]

    default = trials()["spectralmoe"]
    assert variant("top_1").key == variant("gating_laplace").key == default.key
    assert variant("without_depth").key != default.key
    assert "fusion=none, depth=False" in str(variant("without_depth"))
    assert "depth" not in variant("without_depth").weights
    assert variant("tokens_50").key != default.key
    with pytest.raises(ValueError, match=r"variant=without_deth; did you mean 'without_depth'"):
        variant("without_deth")


def test_records_mark_their_trials_as_cached(smoke_results: Path) -> None:
    store = RecordStore(smoke_results / "test" / "records")
    plan = make_plan(Request(suite="smoke", scale="test", seeds=2), store)
    assert [(item.trial.seed, item.status) for item in plan.trials] == [(0, "cached"), (1, "planned")] * 4
    assert [trial.seed for trial in plan.pending] == [1] * 4
    fresh = make_plan(Request(suite="smoke", scale="test"), None).beside(store, fresh=True)
    assert len(fresh.pending) == 4


def test_failed_records_are_not_cached(smoke_copy: Path) -> None:
    store = RecordStore(smoke_copy / "test" / "records")
    record = next(iter(store))
    result = {name: value for name, value in record.result.items() if name in ("inputs", "labels")}
    error = {"type": "RuntimeError", "message": "", "traceback": ""}
    store.path(record.key).unlink()
    store.write(replace(record, status="failed", result=result, arrays={}, error=error))
    plan = make_plan(Request(suite="smoke", scale="test"), store)
    assert [trial.key for trial in plan.pending] == [record.key]


def test_filters_keep_what_they_name() -> None:
    assert set(trials()) == {"frozen", "lora", "rein", "spectralmoe"}
    assert set(trials(methods=["rein", "lora"], tasks=["fbp_cs"], backbones=["dinov3"])) == {"rein", "lora"}
    assert [item.trial.seed for item in planned(methods=["rein"], seeds=3).trials] == [0, 1, 2]
    assert {item.trial.seed for item in planned(suite="table1").trials} == {0, 1, 2}


@pytest.mark.parametrize("suite", ["smoke", "all"])
def test_a_method_from_outside_takes_part(external: Path, suite: str) -> None:
    found = trials(suite=suite, methods=[f"{external}:Mine", "frozen"], seeds=1, settings=["mine.gain=2"])
    assert set(found) == {"mine", "frozen"}
    assert asdict(found["mine"].options) == {"preset": "default", "gain": 2.0}
    assert found["mine"].method.source_sha256
    assert not found["frozen"].method.source_sha256
    with pytest.raises(ValueError, match=r"unknown option mine\.gian; did you mean 'gain'\?"):
        trials(suite=suite, methods=[f"{external}:Mine"], settings=["mine.gian=2"])


def test_the_key_of_a_method_from_outside_follows_its_source_not_its_place(external: Path, tmp_path: Path) -> None:
    (before,) = keys(methods=[f"{external}:Mine"])
    (tmp_path / "moved").mkdir()
    moved = Path(shutil.copy(external, tmp_path / "moved" / "renamed.py"))
    assert keys(methods=[f"{moved}:Mine"]) == [before]
    external.write_text(EXTERNAL + "# a change\n")
    assert keys(methods=[f"{external}:Mine"]) != [before]


def test_costs_are_told_by_earlier_records(program: Program, smoke_copy: Path) -> None:
    store = RecordStore(smoke_copy / "test" / "records")
    seconds = {"frozen": 100.0, "lora": 200.0, "rein": 300.0, "spectralmoe": 400.0}
    for record in list(store):
        told = {"seconds": seconds[record.inputs["method"]], "train_seconds": 36.0, "data_seconds": 4.0}
        store.write(replace(record, run={**record.run, **told}))
    plan = make_plan(Request(suite="smoke", scale="test", seeds=2), store)
    assert {item.trial.method.name: item.estimate for item in plan.trials if item.trial.seed == 1} == seconds
    lengthened = make_plan(Request(suite="smoke", scale="test", settings=["protocol.steps=50"]), store)
    longer = {name: whole - 40 + 50 * 40 / 4 for name, whole in seconds.items()}
    assert {item.trial.method.name: item.estimate for item in lengthened.trials} == longer, "only steps are scaled"
    by_epochs = make_plan(Request(suite="smoke", scale="test", settings=["protocol.epochs=2"]), store)
    assert {item.estimate for item in by_epochs.trials} == {None}, "steps tell nothing of epochs"
    result = program("plan", "--suite", "smoke", "--scale", "test", "--seeds", 2, "--results", smoke_copy)
    assert "4 cached, 4 to run, about 17 min" in result.text


def test_streams_differ_by_name_and_seed() -> None:
    names = ("encoder", "adapter", "head", "order", "augmentation/0", "augmentation/1", "noise/1", "evaluation")
    seeds = [stream_seed(seed, name) for seed in range(20) for name in names]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert stream_seed(3, "head") == stream_seed(3, "head")


@pytest.mark.parametrize("queries", ["plain", "linked"])
def test_a_method_never_changes_the_head_of_another(queries: str) -> None:
    import torch

    from harness.segmentor import build_segmentor

    # REIN's own query content would be one more layer in its head
    chosen = trials(settings=[f"protocol.queries={queries}", "rein.replace_content=false"])
    heads = {name: build_segmentor(trial).head.state_dict() for name, trial in chosen.items()}
    other = build_segmentor(replace(chosen["rein"], seed=1)).head.state_dict()
    assert any(not torch.equal(other[name], tensor) for name, tensor in heads["rein"].items())
    compared = 0
    for (one, ours), (two, theirs) in combinations(heads.items(), 2):
        if ours.keys() != theirs.keys():  # a linked head lacks the tables that the method's queries stand in for
            assert queries == "linked"
            continue
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), (one, two, name)
        compared += 1
    assert compared == {"plain": 6, "linked": 2}[queries]


def test_a_cell_may_have_seeds_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seeds on one backbone, one on the others; the user's number goes before both."""
    cells = (Cell(backbone="dinov3", seeds=3), Cell(seeds=1))
    monkeypatch.setitem(SUITES, "mixed", Suite(name="mixed", title="", cells=cells, seeds=2))
    trials = make_plan(Request(suite="mixed", scale="test", tasks=["fbp_cs"], methods=["lora"]), None).trials
    seeds = Counter(planned.trial.backbone.name for planned in trials)
    assert seeds == dict.fromkeys(zoo.BACKBONES, 1) | {"dinov3": 3}
    assert len(keys(suite="mixed", tasks=["fbp_cs"], methods=["lora"], seeds=2)) == 2 * len(zoo.BACKBONES)


def test_a_backbone_the_suite_lacks_takes_part_in_it() -> None:
    def cells(*backbones: str) -> set[tuple[str, str]]:
        made = make_plan(Request(suite="smoke", scale="test", backbones=backbones), None)
        return {(item.trial.backbone.name, item.trial.method.name) for item in made.trials}

    methods = {method for _, method in cells()}
    assert cells() == {("dinov3", method) for method in methods}
    assert cells("sam_h") == {("sam", method) for method in methods}
    everywhere = Request(suite="all", scale="test", tasks=["oem_cc"], backbones=["clip"], methods=["lora"])
    assert [str(item.trial) for item in make_plan(everywhere, None).trials] == ["oem_cc · clip · lora · seed 0"]
    assert cells("clip", "dinov3") == {(name, method) for name in ("clip", "dinov3") for method in methods}
