"""`compare` and `leaderboard`, on records whose truth is known: what they say, and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.leaderboard import build_boards
from harness.metrics import scores
from harness.ranking import critical_difference
from harness.records import Record, RecordStore, failed_record
from harness.rows import table_of
from harness.split import SOURCE_VAL
from tests.conftest import Program, assert_refused, run_process
from tests.simulated import write_results
from tests.test_smoke import TORCH_WANTED

GAINS = {"frozen": 0.0, "lora": 0.5, "rein": -0.4}
TASKS = ("fbp_cs", "loveda_r2u", "oem_cc")
TEST = ("--scale", "test", "--results")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods with three seeds on three tasks. Not to be changed."""
    folder = tmp_path_factory.mktemp("compare")
    write_results(folder, GAINS, tasks=TASKS)
    return folder


def records(results: Path, task: str = "fbp_cs", **wanted: object) -> list[Record]:
    """Records of a task by seed, whose inputs are as wanted."""
    store = RecordStore(results / "test" / "records")
    found = [r for r in store if all(r.inputs[k] == v for k, v in {"task": task, **wanted}.items())]
    return sorted(found, key=lambda record: record.inputs["seed"])


def target_miou(record: Record) -> float:
    """From the arrays, as they lie on the disk."""
    kept = [i for i, domain in enumerate(record.result["tiles"]["domain"]) if domain != SOURCE_VAL]
    return scores(record.arrays["areas/2"][kept].sum(0)).miou


def line(text: str, name: str) -> list[str]:
    """The cells of the printed row that begins so."""
    (found,) = [each for each in text.splitlines() if each.strip().startswith(name)]
    return re.split(r"\s{2,}", found.strip())


# --- compare


def test_rows_are_compared_over_all_seeds(program: Program, results: Path) -> None:
    result = program("compare", "frozen", "lora@dinov3", "--task", "fbp_cs", *TEST, results)
    assert result.exit_code == 0, result
    frozen, lora = (
        float(np.mean([target_miou(r) for r in records(results, method=name)])) for name in ("frozen", "lora")
    )
    cells = line(result.out, "mIoU")
    assert cells[1:3] == [f"{frozen:.1f}", f"{lora:.1f}"]
    gain, low, high = (float(n) for n in re.findall(r"[+-][\d.]+", cells[3]))
    assert gain == pytest.approx(lora - frozen, abs=0.051)
    assert 0 < low < gain < high
    assert cells[4] == "< 0.001" or float(cells[4]) < 0.05
    assert "A: Frozen on DINOv3" in result.out
    assert "B: LoRA on DINOv3" in result.out
    assert "3 seed(s), 12 target scenes" in result.out
    assert "One seed" not in result.text
    for name in ("mAcc", "PlanetScope", "GF-1", "Sentinel-2", "water", "building"):
        assert len(line(result.out, name)) == 5


def test_a_class_of_two_scenes_has_no_interval(program: Program, tmp_path: Path) -> None:
    write_results(tmp_path, GAINS, rare="paddy")
    result = program("compare", "frozen", "lora", *TEST, tmp_path)
    assert result.exit_code == 0, result
    name, _, _, difference = line(result.out, "paddy")
    assert re.fullmatch(r"[+-][\d.]+", difference), name
    assert "[" in line(result.out, "water")[3]


def test_costs_stand_side_by_side_with_their_ratio(program: Program, results: Path) -> None:
    result = program("compare", "frozen", "lora", "--task", "fbp_cs", *TEST, results)
    assert line(result.out, "trained parameters")[1:] == ["6,000", "4,000", "0.67"]
    assert line(result.out, "ms per step")[1:] == ["106", "104", "0.98"]


def test_times_of_different_machines_have_no_ratio(program: Program, tmp_path: Path) -> None:
    made = write_results(tmp_path, GAINS)
    other = made[-1]
    moved = Record(
        **{**vars(other), "result": dict(other.result), "run": {**other.run, "host": "elsewhere"}},
    )
    RecordStore(tmp_path / "test" / "records").write(moved)
    result = program("compare", "frozen", other.inputs["method"], *TEST, tmp_path)
    assert result.exit_code == 0, result
    assert len(line(result.out, "ms per step")) == 3
    assert len(line(result.out, "trained parameters")) == 4
    assert "different machines" in result.text


def test_two_records_are_compared_by_their_keys(program: Program, results: Path) -> None:
    one, other = records(results, method="frozen", seed=1) + records(results, method="rein", seed=1)
    result = program("compare", one.key[:9], other.key, *TEST, results)
    assert result.exit_code == 0, result
    assert line(result.out, "mIoU")[1:3] == [f"{target_miou(one):.1f}", f"{target_miou(other):.1f}"]
    assert "1 seed(s)" in result.out
    assert "not about the methods" in result.text
    assert one.key in result.out


def test_two_seeds_of_one_method_are_compared_and_called_so(program: Program, results: Path) -> None:
    one, other, *_ = records(results, method="frozen")
    result = program("compare", one.key, other.key, *TEST, results)
    assert result.exit_code == 0, result
    assert line(result.out, "mIoU")[1:3] == [f"{target_miou(one):.1f}", f"{target_miou(other):.1f}"]
    assert "Different seeds" in result.text


def test_last_weights_are_compared_when_asked_for(program: Program, results: Path) -> None:
    result = program("compare", "frozen", "lora", "--task", "fbp_cs", "--selection", "last", *TEST, results)
    assert result.exit_code == 0, result
    last = [r.result["selections"]["last"]["scores"]["target"]["miou"] for r in records(results, method="frozen")]
    assert line(result.out, "mIoU")[1] == f"{np.mean(last):.1f}"


def test_the_unknown_is_answered_with_the_nearest(program: Program, results: Path) -> None:
    assert_refused(program("compare", "frozen", "lorra", *TEST, results), "'lorra'", "did you mean 'lora@dinov3'")
    answer = program("compare", "frozen", "lora", "--task", "fbp", *TEST, results)
    assert_refused(answer, "--task fbp", "fbp_cs")
    answer = program("compare", "frozen", "lora", "--selection", "lst", *TEST, results)
    assert_refused(answer, "selection 'lst'", "did you mean 'last'")
    assert_refused(program("compare", "frozen", "lora", *TEST, results / "none"), "no records", "run a suite")


def test_what_is_ambiguous_asks_which(program: Program, results: Path) -> None:
    answer = program("compare", "frozen", "lora", *TEST, results)
    assert_refused(answer, "3 tables", *TASKS, "--task")
    assert_refused(program("compare", "frozen", "frozen", "--task", "fbp_cs", *TEST, results), "the same")
    keys = [path.stem for path in (results / "test" / "records").glob("*.json")]
    first = next(c for c in "0123456789abcdef" if sum(key.startswith(c) for key in keys) > 1)
    assert_refused(program("compare", first, "lora", *TEST, results), "records begin with", "more of the key")


def test_a_variant_and_a_backbone_are_named(program: Program, tmp_path: Path) -> None:
    write_results(tmp_path, {"lora": 0.0}, settings=["lora.rank=2"])
    write_results(tmp_path, {"lora": 0.0, "frozen": 0.0})
    write_results(tmp_path, {"frozen": 0.0}, backbones=["clip"])
    assert program("compare", "lora@dinov3", "lora[rank=2]", *TEST, tmp_path).exit_code == 0
    assert_refused(program("compare", "frozen", "lora", *TEST, tmp_path), "frozen@clip, frozen@dinov3", "say which")


def test_a_method_whose_name_could_begin_a_key_is_a_method(program: Program, tmp_path: Path) -> None:
    write_results(tmp_path, {"fada": 0.0, "frozen": 0.0})
    (other,) = write_results(tmp_path, {"rein": 0.0}, tasks=("oem_cc",), seeds=1)
    store = RecordStore(tmp_path / "test" / "records")
    store.write(Record(**{**vars(other), "key": "fada000000000000", "result": dict(other.result)}))
    result = program("compare", "frozen", "fada", *TEST, tmp_path)
    assert result.exit_code == 0, result
    assert "B: FADA on DINOv3" in result.out


def test_other_tasks_and_recipes_are_refused_with_what_differs(program: Program, results: Path, tmp_path: Path) -> None:
    one, other = (records(results, task, method="frozen")[0] for task in ("fbp_cs", "oem_cc"))
    answer = program("compare", one.key, other.key, *TEST, results)
    assert_refused(answer, "task is fbp_cs and oem_cc", "data_fingerprint")
    write_results(tmp_path, GAINS)
    (rate,) = write_results(tmp_path, {"lora": 0.0}, seeds=1, settings=["protocol.lr=0.5"])
    answer = program("compare", records(tmp_path, method="frozen")[0].key, rate.key, *TEST, tmp_path)
    assert_refused(answer, "lr is 0.003 and 0.5", "one task, data and recipe")


def test_a_failed_record_cannot_be_compared(program: Program, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from harness.plan import Request, make_plan

    write_results(tmp_path, GAINS)
    request = Request(suite="fair", scale="test", tasks=["fbp_cs"], backbones=["dinov3"], methods=["vpt"], seeds=1)
    trial = make_plan(request, None).pending[0]
    RecordStore(tmp_path / "test" / "records").write(failed_record(trial, RuntimeError("broken"), datetime.now(UTC)))
    assert_refused(program("compare", "frozen", trial.key, *TEST, tmp_path), trial.key, "failed", "show")


def test_rows_without_a_common_seed_are_refused(program: Program, tmp_path: Path) -> None:
    made = write_results(tmp_path, GAINS)
    for record in made:
        seeds = {"frozen": (0, 1), "lora": (2,)}.get(record.inputs["method"], ())
        if record.inputs["seed"] not in seeds:
            for suffix in ("json", "safetensors"):
                (tmp_path / "test" / "records" / f"{record.key}.{suffix}").unlink()
    answer = program("compare", "frozen", "lora", *TEST, tmp_path)
    assert_refused(answer, "frozen@dinov3 has seeds 0, 1", "lora@dinov3 2", "--seeds")


@pytest.mark.parametrize("command", [("compare", "frozen", "lora", "--task", "fbp_cs"), ("leaderboard",)])
def test_neither_needs_torch(results: Path, command: tuple[str, ...]) -> None:
    result = run_process(*command, *TEST, results, code=TORCH_WANTED)
    assert result.exit_code == 0, result.err
    assert result.err == "False\n"


# --- leaderboard


def test_the_board_ranks_by_the_records(program: Program, results: Path) -> None:
    result = program("leaderboard", *TEST, results)
    assert result.exit_code == 0, result
    miou = {
        name: [np.mean([target_miou(r) for r in records(results, task, method=name)]) for task in TASKS]
        for name in GAINS
    }
    ranks = [line(result.out, title)[:2] for title in ("LoRA", "Frozen", "REIN")]
    assert ranks == [["LoRA", "1.00"], ["Frozen", "2.00"], ["REIN", "3.00"]]
    iqm, low, high = (float(n) for n in re.findall(r"[\d.]+", line(result.out, "LoRA")[2]))
    assert iqm == pytest.approx(np.mean(miou["lora"]), abs=0.051)
    assert low < iqm < high
    assert line(result.out, "LoRA")[3:] == ["3", "3"]
    assert f"closer than {critical_difference(3, 3):.2f}" in result.text
    assert "p = 0.028 (every task ranks them alike)" in result.text, "one of 6 orders, twice more"
    assert "test (synthetic) · DINOv3: fbp_cs, loveda_r2u, oem_cc" in result.text


def test_who_lacks_a_task_is_left_out_and_named(program: Program, tmp_path: Path) -> None:
    write_results(tmp_path, GAINS, tasks=TASKS, seeds=1)
    write_results(tmp_path, {"vpt": 0.0}, tasks=TASKS[:1], seeds=1)
    write_results(tmp_path, {"frozen": 0.0}, tasks=("fbp_cr",), seeds=1)
    (board,) = build_boards(RecordStore(tmp_path / "test" / "records"), "test")
    assert board.tasks == TASKS
    assert {standing.title for standing in board.standings} == {"Frozen", "LoRA", "REIN"}
    assert board.missing == {"VPT": ("loveda_r2u", "oem_cc")}
    assert set(board.dropped) == {"fbp_cr"}
    text = program("leaderboard", *TEST, tmp_path).text
    assert "left out: VPT lacks loveda_r2u, oem_cc" in text
    assert "not counted: fbp_cr" in text
    (board,) = build_boards(RecordStore(tmp_path / "test" / "records"), "test", tasks=["fbp_cs"])
    assert {standing.title for standing in board.standings} == {"Frozen", "LoRA", "REIN", "VPT"}
    assert board.ranking is None
    assert not board.missing


def test_backbones_and_recipes_have_boards_of_their_own(program: Program, tmp_path: Path) -> None:
    write_results(tmp_path, GAINS, tasks=TASKS, seeds=1)
    write_results(tmp_path, GAINS, tasks=TASKS[:1], seeds=1, backbones=["clip"])
    write_results(tmp_path, GAINS, tasks=TASKS[:2], seeds=1, settings=["protocol.lr=0.5"])
    boards = build_boards(RecordStore(tmp_path / "test" / "records"), "test")
    assert [(board.heading, board.tasks) for board in boards] == [
        ("test (synthetic) · DINOv3", TASKS),
        ("test (synthetic) · DINOv3 · lr=0.5", TASKS[:2]),
        ("test (synthetic) · CLIP", TASKS[:1]),
    ]
    assert {len(board.standings) for board in boards} == {3}
    assert "nothing to test" in program("leaderboard", "--backbone", "clip", *TEST, tmp_path).text
    plot = tmp_path / "diagram.png"
    assert_refused(program("leaderboard", "--plot", plot, *TEST, tmp_path), "2 boards", "--backbone or --task")
    assert not plot.exists()


def test_older_data_of_a_task_are_never_mixed_in(tmp_path: Path) -> None:
    old = write_results(tmp_path, {"frozen": 0.0, "lora": 3.0}, tasks=TASKS[:2], seeds=1)
    store = RecordStore(tmp_path / "test" / "records")
    for record in old:
        inputs = {**record.inputs, "data_fingerprint": "older"}
        run = {**record.run, "finished": "2000-01-01"}
        key = record.key[:-1] + ("0" if record.key[-1] != "0" else "1")
        store.write(Record(**{**vars(record), "key": key, "result": {**record.result, "inputs": inputs}, "run": run}))
    write_results(tmp_path, {"frozen": 3.0, "lora": 0.0}, tasks=TASKS[:2], seeds=1)
    assert len({table_of(record.inputs) for record in store}) == 4
    (board,) = build_boards(store, "test")
    assert [standing.title for standing in board.standings] == ["Frozen", "LoRA"]
    assert set(board.dropped) == {f"older data of {task}" for task in TASKS[:2]}


def test_mistakes_of_a_leaderboard_are_one_message(program: Program, results: Path, tmp_path: Path) -> None:
    assert_refused(program("leaderboard", *TEST, tmp_path), "no records", "run a suite")
    assert_refused(program("leaderboard", "--task", "oemcc", *TEST, results), "--task oemcc", "did you mean 'oem_cc'")
    assert_refused(program("leaderboard", "--backbone", "clip", *TEST, results), "--backbone clip", "dinov3")
    for file, word in ((tmp_path / "board.txt", ".pdf"), (tmp_path / "none" / "board.pdf", "cannot be written")):
        assert_refused(program("leaderboard", "--plot", file, *TEST, results), str(file), word)


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_the_diagram_is_written_alike_every_time(program: Program, results: Path, tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{name}.{suffix}" for name in ("one", "two")]
    for file in files:
        assert program("leaderboard", "--plot", file, *TEST, results).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    if suffix == "svg":
        assert files[0].stat().st_size > 1000
