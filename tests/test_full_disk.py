"""No room for a record: one message, nothing lost, and the same command goes on once there is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import driver
from harness.cluster import run_ray
from harness.schedule import run_local
from tests.conftest import TINY, Program, assert_refused, bodies, snapshot
from tests.stubs import stubbed

PAGE = 4096


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """The mount point of a file system of 512 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system cannot be mounted here: {getattr(error, 'stderr', error)}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill the file system up but for so many pages (one is room for the arrays alone); returns the ballast."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            file.truncate(file.tell() - leave * PAGE)
    return ballast


@pytest.mark.parametrize(
    ("executor", "leave"), [("local", 0), ("local", 1), pytest.param("ray", 1, marks=pytest.mark.slow)]
)
def test_a_full_disk_loses_nothing(
    program: Program,
    request: pytest.FixtureRequest,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    leave: int,
) -> None:
    run = {"local": run_local, "ray": run_ray}[executor]
    monkeypatch.setitem(driver.EXECUTORS, executor, stubbed(run, "probe", small))
    address = ("--address", request.getfixturevalue("cluster")) if executor == "ray" else ()
    args = (*TINY[:4], "--method", "frozen", "--seeds", 3, "--executor", executor, *address, "--results", small)
    assert program(*args, "--max-trials", 1).exit_code == 0
    before = snapshot(small)
    ballast = fill(small, leave)
    assert_refused(program(*args), str(small / "test" / "records"), "No space left", "free space", "--results DIR")
    after = snapshot(small)
    assert {name: after[name] for name in before} == before
    assert [body["status"] for body in bodies(small).values()] == ["done"]
    ballast.unlink()
    result = program(*args)
    assert result.exit_code == 0, result
    assert "1 cached, 2 to run" in result.text
    assert len(bodies(small)) == 3
    last = snapshot(small / "test" / "records")
    assert {name: last[name.partition("records/")[2]] for name in before if "records/" in name} == {
        name: value for name, value in before.items() if "records/" in name
    }
    assert not [name for name in last if name.endswith(".tmp")]


def test_no_room_for_tables_is_one_message_too(program: Program, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(driver.EXECUTORS, "local", stubbed(run_local, "probe", small))
    args = (*TINY[:4], "--method", "frozen", "--seeds", 2, "--results", small)
    assert program(*args).exit_code == 0
    before = snapshot(small / "test" / "records")
    shutil.rmtree(small / "test" / "tables")
    ballast = fill(small, 0)
    assert_refused(program(*args), str(small / "test" / "tables"), "No space left")
    ballast.unlink()
    assert program(*args).exit_code == 0
    assert (small / "test" / "tables" / "fbp_cs-synthetic.csv").stat().st_size
    assert snapshot(small / "test" / "records") == before
