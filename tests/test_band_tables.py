"""Tables of `data stats` and `data verify` keep numbers whole and within the screen, however many bands there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.band_tables import show_by_band
from harness.screen import console
from tests.conftest import Program
from tests.fbp_files import write_fbp
from tests.ohs_files import write_ohs


@pytest.fixture(params=[80, 160])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(console, "_width", request.param)
    return int(request.param)


def lines_within(text: str, width: int) -> list[str]:
    """Lines without what ends them; paths and remarks, which are left to the terminal to wrap, come after the first."""
    lines = [line.rstrip() for line in text.splitlines()]
    wide = [line for line in lines if len(line) > width and not line.startswith(("stored", "band order", "warning"))]
    assert not wide
    return lines


def test_many_bands_are_rows(program: Program, tmp_path: Path, width: int) -> None:
    write_ohs(tmp_path / "raw")
    where = ("--raw", tmp_path / "raw", "--out", tmp_path / "data", "--tile", 64, "--workers", 1)
    assert program("data", "prepare", "whu_ohs_cr", *where, "--choose", "scene_size=any").exit_code == 0
    rest = ("whu_ohs_cr", "--data", tmp_path / "data", "--workers", 1)
    verified = lines_within(program("data", "verify", *rest).out, width)
    measured = lines_within(program("data", "stats", *rest).out, width)
    for band in range(1, 33):
        assert [bool(re.fullmatch(rf" b{band} +\d+ to \d+ +\d+ to \d+", line)) for line in verified].count(True) == 1
        number = r"\d+\.\d\d \(\d+\.\d\d\)"
        assert [bool(re.fullmatch(rf" b{band} +{number} +{number}", line)) for line in measured].count(True) == 1
        shifts = [line for line in measured if re.fullmatch(rf" b{band}( +[+-]\d\.\d\d){{8}}", line)]
        assert len(shifts) == 1, "all valid pixels and seven classes"


def test_the_ranges_of_few_bands_stay_whole(program: Program, tmp_path: Path, width: int) -> None:
    write_fbp(tmp_path, scenes=1)
    rest = ("fbp_cs", "--data", tmp_path, "--workers", 1)
    verified = lines_within(program("data", "verify", *rest).out, width)
    for domain in ("gf2", "planetscope", "gf1", "sentinel2"):
        assert any(re.fullmatch(rf" {domain}( +\d+ to \d+){{4}}", line) for line in verified), verified
    measured = lines_within(program("data", "stats", *rest).out, width)
    assert any(re.fullmatch(r" all( +[+-]\d\.\d\d){4}", line) for line in measured)
    number = r"\d+\.\d\d \(\d+\.\d\d\)"
    name = " NIR" if width == 80 else r" gf2 +7,680"
    assert any(re.fullmatch(rf"{name}( +{number}){{4}}", line) for line in measured), measured


def test_too_many_columns_make_several_tables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 40)
    rows = {f"a class {i}": [f"{i}.{band}" for band in range(7)] for i in range(10)}
    show_by_band("title", "class", [f"b{band}" for band in range(7)], rows)
    lines = lines_within(capsys.readouterr().out, 40)
    parts = [line for line in lines if line.startswith("title")]
    assert parts == [f"title ({i + 1} of {len(parts)})" for i in range(len(parts))]
    assert len(parts) > 1
    fourth = [cell for line in lines if line.startswith(" b3 ") for cell in line.split()[1:]]
    assert fourth == [f"{i}.3" for i in range(10)], "every class once, in order"
