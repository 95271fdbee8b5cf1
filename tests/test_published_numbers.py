"""The published numbers: tidy and checked, the paper's tables rebuilt from them, averages and margins recomputed."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import published
from benchmarks.contradictions import RULES, find_contradictions
from benchmarks.layouts import Layout
from benchmarks.layouts_paper import PAPER, TABLE1, TABLE2, TABLE3, TABLE4, TABLE6, TABLE7
from harness.zoo import BACKBONE_NAMES
from methods import METHODS
from tests.conftest import ROOT

PRINTED = [layout for layout in PAPER if layout.published]
CLOSE = 0.005 + 1e-9


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    """All published numbers."""
    return published.load()


def one(numbers: pd.DataFrame, **place: str) -> float:
    """The one number of a place."""
    for column, value in place.items():
        numbers = numbers[numbers[column] == value]
    assert len(numbers) == 1, place
    return float(numbers["value"].iloc[0])


def test_every_number_of_the_sources_is_there_and_kept_by_git(numbers: pd.DataFrame) -> None:
    counts = {"table1": 96, "table2": 210, "table3": 108, "table4": 30, "table5": 18, "table6": 15, "table7": 30}
    assert numbers["file"].value_counts().to_dict() == {**counts, "crossearth_gate": 67, "text": 3}
    path = published.FOLDER.relative_to(ROOT) / "table1.csv"
    ignored = subprocess.run(["git", "check-ignore", str(path)], cwd=ROOT, capture_output=True, check=False)
    assert ignored.returncode != 0, "the published numbers belong to the repository"


def test_names_of_what_is_implemented_are_the_programs_own() -> None:
    assert set(published.PRINTED_NAMES.values()) <= set(BACKBONE_NAMES)
    known = {row.place.method for layout in PAPER for row in layout.rows if not row.published_only}
    assert known <= set(METHODS)


@pytest.mark.parametrize("layout", PRINTED, ids=lambda layout: layout.name)
def test_a_rebuilt_table_holds_every_number_of_its_file_once(layout: Layout, numbers: pd.DataFrame) -> None:
    table = published.rebuild(layout, numbers)
    own = numbers[(numbers["table"] == layout.name) & (numbers["task"] != "avg")]
    cells = table.drop(columns=[c for c in table.columns if c[1] in ("Params (M)", "Avg.")]).to_numpy().ravel()
    assert sorted(value for value in cells if value == value) == sorted(own["value"])


def test_rows_columns_and_groups_stand_as_in_the_paper(numbers: pd.DataFrame) -> None:
    first = published.rebuild(TABLE1, numbers)
    assert first.loc[("DINOv2-L", "SpectralMoE")].tolist() == pytest.approx(
        [5.74, 63.77, 57.77, 62.62, 61.39], abs=CLOSE
    )
    assert list(dict.fromkeys(group for group, _ in first.index)) == ["CLIP-L", "SAM-H", "EVA02-L", "DINOv2-L"]
    second = published.rebuild(TABLE2, numbers)
    assert second.loc[("PEFT", "SET")].tolist()[:4] == [47.38, 60.61, 55.73, 70.24]
    assert second.loc[("VFM", "DINOv3-L")].isna().tolist()[:3] == [True, True, False]
    assert second.loc[("DG", "DSTC")].tolist()[-2:] == [46.49, 63.17]
    third = published.rebuild(TABLE3, numbers)
    assert third.loc[("FLAIR", "VPT")].tolist() == [3.69, 60.16, 74.11, 59.47, 73.36]
    assert published.rebuild(TABLE4, numbers).loc[("DOFA-L", "w/o depth")].tolist() == [54.71, 54.44, 61.31]
    assert published.rebuild(TABLE6, numbers).loc[("DINOv3-L", "k = 5")].tolist() == [64.57, 59.51, 62.40]
    assert published.rebuild(TABLE7, numbers).loc[("DINOv3-L", "r = 64")].tolist()[:3] == [13.51, 63.13, 75.55]


def test_every_printed_average_is_the_mean_of_its_row(numbers: pd.DataFrame) -> None:
    table = published.rebuild(TABLE1, numbers)
    printed = numbers[(numbers["task"] == "avg")]
    assert len(printed) == len(table) == 24
    assert table[("", "Avg.")].tolist() == pytest.approx(printed["value"].tolist(), abs=CLOSE)


def test_margins_of_the_text_compare_other_backbones(numbers: pd.DataFrame) -> None:
    """The printed margins follow from Tab. 2; like for like, on one backbone, they are smaller."""

    def margins(table: str, backbone: str) -> list[float]:
        found = []
        for task in ("fbp_cs", "fbp_cr", "flair_cr"):
            scores = numbers[(numbers["table"] == table) & (numbers["backbone"] == backbone)]
            scores = scores[(scores["task"] == task) & (scores["metric"] == "miou")].set_index("method")["value"]
            found.append(scores["spectralmoe"] - scores.drop("spectralmoe").max())
        return found

    printed = numbers[numbers["metric"] == "margin_printed"]["value"].tolist()
    assert printed == [7.13, 4.71, 1.62]
    assert margins("table2", "dinov3_l") == pytest.approx(printed, abs=CLOSE)
    assert margins("table3", "dinov3_l") == pytest.approx([4.03, 2.78, 0.39], abs=CLOSE)
    assert margins("table1", "dinov2_l") == pytest.approx([4.71, 2.16, 1.06], abs=CLOSE)


def test_gains_and_means_of_crossearth_gate(numbers: pd.DataFrame) -> None:
    wrong = numbers[numbers["flag"].str.contains("[kl]")]
    assert [(row.task, row.variant, row.value) for row in wrong.itertuples()] == [
        ("casid_sub_avg", "main", 1.6),
        ("casid_mean", "wo_selection", 59.6),
    ]
    assert len(numbers[numbers["metric"] == "gain_printed"]) == len(numbers[numbers["task"] == "casid_mean"]) == 5


def test_flags_are_the_contradictions_found_in_the_numbers(numbers: pd.DataFrame) -> None:
    found = find_contradictions(numbers)
    assert found.tolist() == numbers["flag"].tolist()
    counts = {code: int(found.str.split().map(lambda codes, code=code: code in codes).sum()) for code in RULES}
    # the sheet's list: 24 copies and 3 margins (a), 6 of the baseline (b), 24 unverified (c), two tables' DOFA (d), ...
    small = {"a": 27, "b": 6, "c": 24, "d": 8, "e": 2, "f": 1, "g": 5, "h": 3, "i": 3, "j": 2, "k": 1, "l": 1}
    assert counts == {**small, "m": 67, "n": counts["n"], "o": 4, "p": counts["p"]}
    assert one(numbers, table="table3", flag="f") == 76.68
    assert set(published.load_footnotes()) == set(RULES)
    copied = numbers[numbers["variant"] == "suspect_backbone"]["flag"].str.split()
    assert copied.map(lambda codes: bool({"a", "b"} & set(codes))).all()


def test_footnotes_say_which_tables_they_belong_to(numbers: pd.DataFrame) -> None:
    with (published.FOLDER / "footnotes.csv").open(encoding="utf-8") as file:
        said = {row["code"]: set(row["tables"].split()) for row in csv.DictReader(file)}
    for code, files in said.items():
        flagged = numbers[numbers["flag"].str.split().map(lambda codes, code=code: code in codes)]
        assert set(flagged["file"]) == files, code


def spoil(column: str, value: str) -> Callable[[str], str]:
    """Changes one column of the first number."""

    def change(text: str) -> str:
        lines = text.splitlines()
        parts = lines[1].split(",")
        parts[published.COLUMNS.index(column)] = value
        return "\n".join([lines[0], ",".join(parts), *lines[2:]])

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil("value", "0.463"), ("line 2", "0.463", "percent")),
        (spoil("value", "46,3"), ("line 2", "11 columns", "commas")),
        (spoil("value", "high"), ("line 2", "'high'", "numbers")),
        (spoil("task", "fbp_ss"), ("line 2", "unknown task 'fbp_ss'", "fbp_cs")),
        (spoil("method", "seet"), ("line 2", "unknown method 'seet'")),
        (spoil("backbone", "dinov4_l"), ("line 2", "unknown backbone 'dinov4_l'")),
        (spoil("metric", "iou"), ("line 2", "unknown metric 'iou'")),
        (spoil("suite", "rgb"), ("line 2", "4 bands", "msi")),
        (lambda text: text + text.splitlines()[1], ("line 98", "second number")),
        (lambda text: text.replace(",flag", ",flags"), ("columns", "flags", "flag")),
    ],
)
def test_a_defect_is_named_with_its_line(tmp_path: Path, change: Callable[[str], str], words: tuple[str, ...]) -> None:
    path = tmp_path / "table1.csv"
    path.write_text(change((published.FOLDER / "table1.csv").read_text()))
    with pytest.raises(ValueError, match=r"table1\.csv") as error:
        published.load(tmp_path)
    for word in words:
        assert word in str(error.value)


def test_no_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="restore"):
        published.load(tmp_path)
    with pytest.raises(ValueError, match="restore"):
        published.load_footnotes(tmp_path)


def test_it_needs_no_torch() -> None:
    code = "import sys, benchmarks.contradictions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
