"""Records: whole or not there, and a damaged one is put aside, named and run again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.records import Record, RecordStore
from tests.conftest import SMOKE, TINY, Program, bodies, outcomes, snapshot

KEY = "0123456789abcdef"
RECORD = Record(
    key=KEY,
    status="done",
    result={"inputs": {"seed": 0, "lr": 0.1}, "scores": [1.5, None, 0.1 + 0.2], "classes": ["Gewässer", "森林"]},
    run={"seconds": 1.25, "host": "here"},
    arrays={
        "areas/4": np.arange(24, dtype=np.int64).reshape(2, 4, 3) * 10**12,
        "confusion/4/gf1": np.arange(16, dtype=np.int64).reshape(4, 4).T,  # not contiguous
    },
)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    """An empty store."""
    return RecordStore(tmp_path / "records")


def names(store: RecordStore) -> set[str]:
    """All files of a store, hidden ones too."""
    return {path.name for path in store.folder.iterdir()}


def stored(store: RecordStore, key: str = KEY) -> dict[str, Any]:
    """A record's JSON."""
    body: dict[str, Any] = json.loads(store.path(key).read_text())
    return body


def test_what_is_written_is_read(store: RecordStore) -> None:
    store.write(RECORD)
    read = store.load(KEY)
    assert read is not None
    assert (read.key, read.status, read.run, read.error) == (KEY, "done", RECORD.run, None)
    assert {name: value for name, value in read.result.items() if name != "arrays_sha256"} == RECORD.result
    assert set(read.arrays) == set(RECORD.arrays)
    for name, array in RECORD.arrays.items():
        assert read.arrays[name].dtype == np.int64
        np.testing.assert_array_equal(read.arrays[name], array)
    assert [record.key for record in store] == [KEY]
    assert names(store) == {f"{KEY}.json", f"{KEY}.safetensors"}


def test_a_failed_record_is_read_with_its_error(store: RecordStore) -> None:
    error = {"type": "RuntimeError", "message": "no\nluck", "traceback": "Traceback ..."}
    store.write(replace(RECORD, status="failed", arrays={}, error=error))
    read = store.load(KEY)
    assert read is not None
    assert (read.status, read.error, dict(read.arrays)) == ("failed", error, {})


def test_an_unknown_key_has_no_record(store: RecordStore) -> None:
    assert store.load(KEY) is None
    assert list(store) == []


def test_the_hash_covers_the_result_and_nothing_of_the_run(store: RecordStore) -> None:
    def hash_of(record: Record) -> str:
        store.write(record)
        return str(stored(store)["result_sha256"])

    first = hash_of(RECORD)
    assert hash_of(RECORD) == first
    assert hash_of(replace(RECORD, run={"seconds": 99.0, "host": "there"})) == first
    assert hash_of(replace(RECORD, result={**RECORD.result, "scores": [1.5, None, 0.3]})) != first
    assert hash_of(replace(RECORD, arrays={"areas/4": np.zeros((1, 4, 3), dtype=np.int64)})) != first


def test_equal_records_are_equal_bytes(store: RecordStore) -> None:
    store.write(RECORD)
    first = snapshot(store.folder)
    store.write(replace(RECORD, arrays=dict(reversed(RECORD.arrays.items()))))
    second = snapshot(store.folder)
    assert {name: data for name, (_, data) in second.items()} == {name: data for name, (_, data) in first.items()}


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_nothing_half_written_is_left_when_writing_fails(store: RecordStore, suffix: str) -> None:
    obstacle = store.folder / f"{KEY}{suffix}"
    obstacle.mkdir(parents=True)
    with pytest.raises(ValueError, match=KEY):
        store.write(RECORD)
    assert obstacle.is_dir()
    assert names(store) <= {f"{KEY}.json", f"{KEY}.safetensors"}
    assert store.load(KEY) is None


def test_a_number_that_json_lacks_is_never_written(store: RecordStore) -> None:
    store.write(RECORD)
    before = snapshot(store.folder)
    with pytest.raises(ValueError, match="JSON"):
        store.write(replace(RECORD, arrays={}, result={"scores": float("nan")}))
    assert snapshot(store.folder) == before


def test_remains_of_a_killed_writer_do_no_harm(store: RecordStore) -> None:
    store.write(RECORD)
    os.unlink(store.path(KEY))  # killed between the two files
    (store.folder / f".{KEY}.json.tmp").write_text('{"schema"')  # killed in the second one
    assert store.load(KEY) is None
    assert list(store) == []
    store.write(RECORD)
    assert [record.key for record in store] == [KEY]
    assert names(store) == {f"{KEY}.json", f"{KEY}.safetensors"}


@pytest.mark.parametrize(("umask", "mode"), [(0o027, 0o640), (0o022, 0o644), (0o002, 0o664)])
def test_files_are_as_readable_as_the_umask_says(store: RecordStore, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        store.write(RECORD)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in sorted(store.folder.iterdir())] == [mode, mode]


def flip_digit(path: Path) -> None:
    """Change the last digit of the first score in the result."""
    text = path.read_text()
    at = text.index('"miou": ', text.index('"selections"')) + len('"miou": ') + 5
    assert text[at].isdigit()
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])


def alter(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def overwrite(path: Path, data: bytes) -> None:
    """Other bytes in the same place."""
    path.write_bytes(data)


def change(path: Path, **values: object) -> None:
    """Change fields of the JSON."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "truncated": lambda path, _: overwrite(path, path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path, _: overwrite(path, b""),
    "not text": lambda path, _: overwrite(path, b"\xff\xfe\x00"),
    "no record": lambda path, _: overwrite(path, b"[1, 2]"),
    "result digit": lambda path, _: flip_digit(path),
    "schema": lambda path, _: change(path, schema=0),
    "key": lambda path, _: change(path, key=KEY),
    "status": lambda path, _: change(path, status="failed"),
    "array file missing": lambda _, arrays: arrays.unlink(),
    "array file altered": lambda _, arrays: alter(arrays),
    "array file truncated": lambda _, arrays: overwrite(arrays, arrays.read_bytes()[:-8]),
    "array file empty": lambda _, arrays: overwrite(arrays, b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_put_aside_named_and_planned_again(program: Program, smoke_copy: Path, damage: str) -> None:
    folder = smoke_copy / "test" / "records"
    key = max(bodies(smoke_copy))
    DAMAGES[damage](folder / f"{key}.json", folder / f"{key}.safetensors")
    damaged = snapshot(folder)
    result = program("plan", *SMOKE, "--results", smoke_copy)
    assert result.exit_code == 0, result
    assert "3 cached, 1 to run" in result.text
    assert result.text.count(f"record {key} is corrupt") == 1
    assert snapshot(folder) == damaged, "a reader without the lock changes nothing"
    assert len(list(RecordStore(folder, repair=True))) == 3
    # nothing is lost: the same bytes under other names, the other records as they were
    aside = {name + ".corrupt" if name.startswith(key) else name: value for name, value in damaged.items()}
    assert snapshot(folder) == aside
    again = program("plan", *SMOKE, "--results", smoke_copy)
    assert "corrupt" not in again.text
    assert "3 cached, 1 to run" in again.text


def test_a_failure_never_replaces_a_done_record(smoke_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = RecordStore(smoke_copy / "test" / "records")
    done = next(iter(store))
    before = snapshot(store.folder)
    error = {"type": "RuntimeError", "message": "no", "traceback": "where it happened"}
    store.write(replace(done, status="failed", arrays={}, error=error))
    assert snapshot(store.folder) == before
    assert "where it happened" in caplog.text


@pytest.mark.parametrize("damage", ["truncated", "array file altered"])
def test_the_trial_of_a_damaged_record_runs_again(
    program: Program, smoke_results: Path, smoke_copy: Path, damage: str
) -> None:
    folder = smoke_copy / "test" / "records"
    key = min(bodies(smoke_copy))
    others = {name: value for name, value in snapshot(folder).items() if not name.startswith(key)}
    DAMAGES[damage](folder / f"{key}.json", folder / f"{key}.safetensors")
    result = program(*SMOKE, "--results", smoke_copy)
    assert result.exit_code == 0, result
    assert "3 cached, 1 to run" in result.text
    assert outcomes(smoke_copy) == outcomes(smoke_results)
    after = snapshot(folder)
    assert {name: after[name] for name in others} == others
    whole = {f"{key}{end}" for end in (".json", ".safetensors", ".weights.safetensors", ".panels.safetensors")}
    assert set(after) - set(others) == whole | {f"{name}.corrupt" for name in whole}


@pytest.mark.parametrize("command", [("tables",), ("show",)])
def test_tables_and_show_name_a_damaged_record(program: Program, smoke_copy: Path, command: tuple[str, ...]) -> None:
    key = max(bodies(smoke_copy))
    flip_digit(smoke_copy / "test" / "records" / f"{key}.json")
    args = (*command, key) if command == ("show",) else command
    result = program(*args, "--scale", "test", "--results", smoke_copy)
    assert f"record {key} is corrupt" in result.text
    assert "Traceback" not in result.text
    assert result.exit_code == (2 if command == ("show",) else 0)


def test_an_array_file_without_its_record_is_harmless(program: Program, tmp_path: Path) -> None:
    frozen = (*TINY, "--method", "frozen", "--results", tmp_path)
    assert program(*frozen).exit_code == 0
    (key,) = bodies(tmp_path)
    first = outcomes(tmp_path)
    (tmp_path / "test" / "records" / f"{key}.json").unlink()
    (tmp_path / "test" / "records" / f"{key}.safetensors").write_bytes(b"killed before the record was written")
    result = program(*frozen)
    assert result.exit_code == 0
    assert "0 cached, 1 to run" in result.text
    assert "corrupt" not in result.text
    assert outcomes(tmp_path) == first
