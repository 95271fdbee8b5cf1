"""Where published numbers contradict one another, found again from the numbers: one rule per footnote code.

The text of each code is in `results/published/footnotes.csv`, the codes of each number in its column `flag`; a test
holds the three together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from benchmarks.published import AVERAGE_TASK

_PLACE = ["task", "backbone", "method", "metric"]
_OURS = "spectralmoe"
_NOISE = 0.2
"""Below it, in points, an ablation of one seed says nothing."""


def find_contradictions(numbers: pd.DataFrame) -> pd.Series[str]:
    """The codes each number deserves, joined by spaces, in the order of the numbers.

    Args:
        numbers: those of `benchmarks.published.load`.
    """
    codes: dict[int, list[str]] = {int(i): [] for i in numbers.index}
    for code, rule in RULES.items():
        for i in sorted({int(i) for i in rule(numbers)}):
            codes[i].append(code)
    return pd.Series({i: " ".join(found) for i, found in codes.items()}, name="flag")


def _only(numbers: pd.DataFrame, **wanted: str | list[str]) -> pd.DataFrame:
    for column, value in wanted.items():
        numbers = numbers[numbers[column].isin([value] if isinstance(value, str) else value)]
    return numbers


def _copies(numbers: pd.DataFrame, table: str, backbone: str, of_table: str, of_backbone: str) -> Iterator[int]:
    """Rows of a table all of whose numbers also stand in another table, under another backbone."""
    scores = numbers[numbers["metric"].isin(["miou", "macc"])]
    known = _only(scores, table=of_table, backbone=of_backbone)
    for _, same in _only(scores, table=table, backbone=backbone, suite="msi").groupby("method"):
        shared = same.merge(known, on=["task", "method", "metric"])
        if len(shared) and (shared["value_x"] == shared["value_y"]).all():
            yield from same.index


def copied_methods(numbers: pd.DataFrame) -> Iterator[int]:
    """Tab. 2's methods on DINOv3, whose mIoU is Tab. 1's on DINOv2; and the margins that the text takes from them."""
    yield from _copies(numbers, "table2", "dinov3_l", "table1", "dinov2_l")
    yield from _only(numbers, metric="margin_printed").index


def copied_baseline(numbers: pd.DataFrame) -> Iterator[int]:
    """Tab. 3's frozen DINOv3, which is Tab. 2's DINOv2."""
    yield from _copies(numbers, "table3", "dinov3_l", "table2", "dinov2_l")


def doubtful_rgb(numbers: pd.DataFrame) -> Iterator[int]:
    """The RGB numbers of the rows whose multispectral ones are copies."""
    copied = numbers.loc[list(_copies(numbers, "table2", "dinov3_l", "table1", "dinov2_l")), "method"].unique()
    yield from _only(numbers, table="table2", backbone="dinov3_l", suite="rgb", method=list(copied)).index


def unequal_twins(numbers: pd.DataFrame) -> Iterator[int]:
    """One method on one task and backbone with two values in two tables, unless one of them is a copy (code b)."""
    clean = numbers.drop(index=list(copied_baseline(numbers)))
    clean = clean.drop(index=list(copied_methods(numbers)))
    clean = clean[clean["variant"].isin(["main", "full"]) & clean["table"].str.startswith("table")]
    for _, same in clean.groupby(_PLACE):
        if same["value"].nunique() > 1:
            yield from same.index


def equal_neighbours(numbers: pd.DataFrame) -> Iterator[int]:
    """Two methods with one value in one column of Tab. 2, which may be a slip of the pen."""
    for _, same in _only(numbers, table="table2").groupby(["task", "backbone", "metric"]):
        yield from same[same.duplicated("value", keep=False)].index


def beaten(numbers: pd.DataFrame) -> Iterator[int]:
    """A method above SpectralMoE in Tab. 2 or 3, against the claim that it wins everywhere."""
    for _, same in _only(numbers, table=["table2", "table3"]).groupby(["table", "task", "backbone", "metric"]):
        ours = same.loc[same["method"] == _OURS, "value"]
        if len(ours):
            yield from same[same["value"] > ours.iloc[0]].index


def below_frozen(numbers: pd.DataFrame) -> Iterator[int]:
    """A fine-tuned encoder below the frozen one in Tab. 1, against the claim that none is."""
    for _, same in _only(numbers, table="table1").groupby(["task", "backbone", "metric"]):
        frozen = same.loc[same["method"] == "frozen", "value"].iloc[0]
        yield from same[same["value"] < frozen].index


def above_dinov2(numbers: pd.DataFrame) -> Iterator[int]:
    """A method better on another encoder than on DINOv2 in Tab. 1, against the claim that DINOv2 is best for all."""
    for _, same in _only(numbers, table="table1").groupby(["task", "method", "metric"]):
        dinov2 = same.loc[same["backbone"] == "dinov2_l", "value"].iloc[0]
        yield from same[same["value"] > dinov2].index


def rising(numbers: pd.DataFrame) -> Iterator[int]:
    """More experts per token and a higher score in Tab. 6, against the claim of a steady decline."""
    for _, same in _only(numbers, table="table6").groupby("task"):
        ordered = same.sort_values("variant")
        yield from ordered[ordered["value"].diff() > 0].index


def within_noise(numbers: pd.DataFrame) -> Iterator[int]:
    """A component in Tab. 4 without which hardly anything is lost, measured with one seed."""
    for _, same in _only(numbers, table="table4").groupby(["task", "backbone"]):
        full = same.loc[same["variant"] == "full", "value"].iloc[0]
        rest = same[same["variant"] != "full"]
        yield from rest[full - rest["value"] < _NOISE].index


def wrong_gains(numbers: pd.DataFrame) -> Iterator[int]:
    """A printed gain of CrossEarth-Gate that does not follow from the rows above it."""
    main = _only(numbers, table="main")
    for row in _only(main, metric="gain_printed").itertuples():
        scores = _only(main, task=str(row.task), metric="miou")
        own = scores["method"] == row.method
        if abs(scores.loc[own, "value"].iloc[0] - scores.loc[~own, "value"].max() - float(str(row.value))) > 0.051:
            yield int(str(row.Index))


def wrong_means(numbers: pd.DataFrame) -> Iterator[int]:
    """A printed average that is not the mean of its parts, to the printed digits."""
    scores = _only(numbers, metric="miou")
    for whole, digit in ((AVERAGE_TASK, 0.005), ("casid_mean", 0.05)):
        for row in _only(scores, task=whole).itertuples():
            same = _only(scores, table=str(row.table), backbone=str(row.backbone), suite=str(row.suite))
            same = _only(same, method=str(row.method), variant=str(row.variant))
            parts = same.loc[same["task"] != whole, "value"]
            if abs(parts.mean() - float(str(row.value))) > digit + 1e-9:
                yield int(str(row.Index))


def second_hand(numbers: pd.DataFrame) -> Iterator[int]:
    """CrossEarth-Gate, known from a digest that names its backbone only as DINOv2."""
    yield from _only(numbers, file="crossearth_gate").index


def other_schedule(numbers: pd.DataFrame) -> Iterator[int]:
    """SpectralMoE on FLAIR, which the released schedule trains for 10 epochs, not 20."""
    yield from _only(_released(numbers), task="flair_cr").index


def other_experts(numbers: pd.DataFrame) -> Iterator[int]:
    """SpectralMoE on LoveDA and OpenEarthMap, whose released configurations have 3 experts, not 6."""
    yield from _only(_released(numbers), task=["loveda_r2u", "oem_cc"]).index


def chosen_on_target(numbers: pd.DataFrame) -> Iterator[int]:
    """SpectralMoE's headline, whose released checkpoint is of epoch 18 of 20: picked by its score on the target."""
    headline = _only(_released(numbers), task="fbp_cs", backbone="dinov3_l", metric=["miou", "macc"])
    best = headline.loc[headline["metric"] == "miou", "value"].max()
    full = headline[(headline["metric"] == "miou") & (headline["value"] == best)]
    printed = full["table"] + "/" + full["variant"]
    yield from headline[(headline["table"] + "/" + headline["variant"]).isin(printed)].index


def _released(numbers: pd.DataFrame) -> pd.DataFrame:
    tables = numbers["table"].str.startswith("table")
    return numbers[tables & (numbers["method"] == _OURS) & numbers["metric"].isin(["miou", "macc"])]


RULES: dict[str, Callable[[pd.DataFrame], Iterator[int]]] = {
    "a": copied_methods,
    "b": copied_baseline,
    "c": doubtful_rgb,
    "d": unequal_twins,
    "e": equal_neighbours,
    "f": beaten,
    "g": below_frozen,
    "h": above_dinov2,
    "i": rising,
    "j": within_noise,
    "k": wrong_gains,
    "l": wrong_means,
    "m": second_hand,
    "n": other_schedule,
    "o": other_experts,
    "p": chosen_on_target,
}
