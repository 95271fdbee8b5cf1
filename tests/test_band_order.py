"""`data stats` warns of a flipped band order, and not of real shifts."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.catalogue import TASKS
from benchmarks.tasks import Band, SceneSizes, Task
from harness.band_order import suspicions, unchecked
from harness.data_statistics import DomainStatistics, Moments, TaskStatistics
from tests.conftest import Program
from tests.data_files import png, write_loveda, zipped
from tests.fbp_files import Written, write_fbp, write_image

CAMERAS = {
    ("potsdam2vaihingen", "vaihingen"): (
        Band(name="NIR", centre_um=0.765),
        Band(name="R", centre_um=0.635),
        Band(name="G", centre_um=0.56),
    )
}
"""Domains whose bands are not those of their task."""


def moments(pixels: np.ndarray) -> Moments:
    wide = pixels.astype(np.float64)
    return Moments(pixels=len(wide), mean=tuple(wide.mean(0).tolist()), std=tuple(wide.std(0).tolist()))


@pytest.fixture(scope="module")
def mirrors() -> dict[str, TaskStatistics]:
    """Statistics of every mirror, as `data stats` measures those of files."""
    found = {}
    for task in TASKS.values():
        source = task.embedded
        assert source is not None
        reader = source.open(SceneSizes(source_scenes=16, target_scenes=12, scene_px=128, tile_px=64))
        domains = {}
        for domain in (source.source, *source.targets):
            samples = [reader.read(tile) for tile in reader.tiles(domain)]
            image = np.concatenate([sample.image.reshape(-1, len(task.bands)) for sample in samples])
            label = np.concatenate([sample.label.reshape(-1) for sample in samples])
            classes = {name: moments(image[label == i]) for i, name in enumerate(source.classes) if (label == i).any()}
            domains[domain] = DomainStatistics(all=moments(image), classes=classes)
        found[task.name] = TaskStatistics(source=source.source, domains=domains, fingerprint=None)
    return found


def stated(task: Task, statistics: TaskStatistics) -> dict[str, tuple[Band, ...]]:
    return {domain: CAMERAS.get((task.name, domain), task.bands) for domain in statistics.domains}


def reordered(statistics: TaskStatistics, domain: str, order: Sequence[int]) -> TaskStatistics:
    """Statistics of files in which place i of one domain holds band `order[i]`."""

    def turned(old: Moments) -> Moments:
        mean, std = (tuple(values[i] for i in order) for values in (old.mean, old.std))
        return Moments(pixels=old.pixels, mean=mean, std=std)

    old = statistics.domains[domain]
    new = DomainStatistics(all=turned(old.all), classes={name: turned(m) for name, m in old.classes.items()})
    return TaskStatistics(source=statistics.source, domains={**statistics.domains, domain: new}, fingerprint=None)


@pytest.mark.parametrize("name", list(TASKS))
def test_the_shift_of_a_mirror_is_no_flip(mirrors: dict[str, TaskStatistics], name: str) -> None:
    bands = stated(TASKS[name], mirrors[name])
    assert suspicions(mirrors[name], bands) == []
    assert unchecked(mirrors[name], bands) == []


HIDDEN = {("potsdam", (0, 2, 1)), ("potsdam", (1, 2, 0)), ("potsdam", (2, 1, 0))}
"""What cannot be told: Vaihingen shares only R and G with Potsdam, and these put its B in the place of one of them."""


@pytest.mark.parametrize("name", list(TASKS))
def test_every_other_order_of_a_domain_is_told(mirrors: dict[str, TaskStatistics], name: str) -> None:
    whole, bands = mirrors[name], stated(TASKS[name], mirrors[name])
    for domain in whole.domains:
        names = [band.name for band in bands[domain]]
        plain = tuple(range(len(names)))
        for order in [plain[::-1]] if len(names) > 4 else [order for order in permutations(plain) if order != plain]:
            found = suspicions(reordered(whole, domain, order), bands)
            assert bool(found) is ((domain, order) not in HIDDEN), (domain, order, found)
            if domain != whole.source:
                assert {text.split(":")[0] for text in found} == {domain}, found


@pytest.mark.parametrize(("name", "domain"), [("fbp_cs", "sentinel2"), ("flair_cr", "unseen"), ("loveda_r2u", "urban")])
def test_the_true_order_is_named(mirrors: dict[str, TaskStatistics], name: str, domain: str) -> None:
    whole, bands = mirrors[name], stated(TASKS[name], mirrors[name])
    names = [band.name for band in bands[domain]]
    for order in permutations(range(len(names))):
        true = [names[i] for i in order]
        found = suspicions(reordered(whole, domain, order), bands)
        assert true == names or f"{domain}: read as {', '.join(true)} its classes look like" in found[-1], found


def means_of(statistics: TaskStatistics, domain: str) -> np.ndarray:
    """Of classes, [classes, bands]."""
    return np.array([found.mean for found in statistics.domains[domain].classes.values()])


def with_means(statistics: TaskStatistics, domain: str, means: np.ndarray) -> TaskStatistics:
    """With other means of classes, [classes, bands]."""
    old = statistics.domains[domain]
    classes = {
        name: Moments(pixels=found.pixels, mean=tuple(row), std=found.std)
        for (name, found), row in zip(old.classes.items(), means.tolist(), strict=True)
    }
    domains = {**statistics.domains, domain: DomainStatistics(all=old.all, classes=classes)}
    return TaskStatistics(source=statistics.source, domains=domains, fingerprint=None)


def test_reversed_spectra_that_still_agree_a_little_are_told(mirrors: dict[str, TaskStatistics]) -> None:
    """What classes have alike in the first and last bands stays in the reversed order, and fits the source there."""
    task, whole = TASKS["whu_ohs_cr"], mirrors["whu_ohs_cr"]
    names = [name for name in whole.domains[whole.source].classes if name in whole.domains["arid"].classes]
    hill = 1 - np.abs(np.linspace(-1, 1, 32))
    for domain in whole.domains:
        heights = np.array([(-1.0) ** names.index(c) if c in names else 0 for c in whole.domains[domain].classes])
        whole = with_means(whole, domain, means_of(whole, domain) * np.exp(heights[:, None] * hill))
    bands = stated(task, whole)
    assert suspicions(whole, bands) == []
    (told,) = [text for text in suspicions(reordered(whole, "arid", range(32)[::-1]), bands) if "look like" in text]
    fit, now = (float(number) for number in re.findall(r"(-?\d\.\d\d)\)", told))
    assert fit > 0.9
    assert now > 0, "else no new case"


@pytest.mark.parametrize("name", list(TASKS))
def test_gain_and_noise_are_no_flip(mirrors: dict[str, TaskStatistics], name: str) -> None:
    """A random gain of 20 % per band, and noise of 10 % per class and band: rarely told."""
    rng = np.random.default_rng(0)
    bands, alarms = stated(TASKS[name], mirrors[name]), 0
    for _ in range(20):
        whole = mirrors[name]
        for domain in list(whole.domains)[1:]:
            gain = np.exp(rng.normal(0, 0.2, len(bands[domain])))
            means = means_of(whole, domain)
            whole = with_means(whole, domain, means * gain * rng.normal(1, 0.1, means.shape))
        alarms += bool(suspicions(whole, bands))
    assert alarms <= 1


@pytest.mark.parametrize("name", ["fbp_cs", "fbp_cr", "flair_cr"])
def test_bands_equal_within_noise_cannot_be_told_apart(mirrors: dict[str, TaskStatistics], name: str) -> None:
    rng = np.random.default_rng(0)
    bands = stated(TASKS[name], mirrors[name])
    infrared, red = ([band.name for band in TASKS[name].bands].index(band) for band in ("NIR", "R"))
    for _ in range(100):
        whole = mirrors[name]
        for domain in whole.domains:
            means = means_of(whole, domain)
            means[:, infrared] = means[:, red] * rng.normal(1, 0.02, len(means))
            whole = with_means(whole, domain, means)
        assert [text for text in suspicions(whole, bands) if "look like" in text] == []


def test_the_correlations_told_are_those_judged(mirrors: dict[str, TaskStatistics]) -> None:
    """Of the bands that move: of all four bands, two orders of two of them may both correlate by 1.00."""
    whole, bands = mirrors["fbp_cs"], stated(TASKS["fbp_cs"], mirrors["fbp_cs"])
    for domain in list(whole.domains)[1:]:
        for order in permutations(range(4)):
            for text in suspicions(reordered(whole, domain, order), bands):
                if "look like" in text:
                    fit, now = (float(number) for number in re.findall(r"(-?\d\.\d\d)\)", text))
                    assert fit >= 0.5
                    assert fit - now >= 0.49, text


def test_a_source_and_targets_flipped_alike_are_told_by_their_leaves(mirrors: dict[str, TaskStatistics]) -> None:
    for name in ("fbp_cs", "fbp_cr", "flair_cr", "whu_ohs_cr"):
        turned = mirrors[name]
        for domain in turned.domains:
            turned = reordered(turned, domain, range(len(TASKS[name].bands))[::-1])
        found = suspicions(turned, stated(TASKS[name], turned))
        assert len(found) == len(turned.domains)
        assert all("brightest in band" in text and "not in the near infrared" in text for text in found)


def test_near_infrared_in_the_place_of_red_is_told(mirrors: dict[str, TaskStatistics]) -> None:
    """Potsdam is published as R, G, B and as NIR, R, G, too."""
    task, whole = TASKS["potsdam2vaihingen"], mirrors["potsdam2vaihingen"]
    (text,) = [text for text in suspicions(whole, dict.fromkeys(whole.domains, task.bands)) if "infrared" in text]
    assert text.startswith("vaihingen: beside other classes, low vegetation, tree is brightest in band R: is that")


def test_too_few_classes_or_pixels_tell_nothing(mirrors: dict[str, TaskStatistics]) -> None:
    whole = mirrors["loveda_r2u"]
    bands = stated(TASKS["loveda_r2u"], whole)
    turned = reordered(whole, "urban", (2, 1, 0))
    assert suspicions(turned, bands)
    urban = turned.domains["urban"]
    few = dict(list(urban.classes.items())[:3])
    small = {name: Moments(pixels=20, mean=m.mean, std=m.std) for name, m in urban.classes.items()}
    for classes, left in ((few, 3), (small, 0)):
        domains = {**turned.domains, "urban": DomainStatistics(all=urban.all, classes=classes)}
        less = TaskStatistics(source="rural", domains=domains, fingerprint=None)
        assert not suspicions(less, bands)
        assert unchecked(less, bands) == [
            f"urban not checked against rural: only {left} classes have 500 pixels in both"
        ]
    other = {**bands, "urban": tuple(replace(band, name=f"{band.name}2") for band in bands["urban"])}
    assert unchecked(turned, other) == ["urban not checked against rural: only 0 bands have one name"]


def test_what_is_not_checked_is_told(program: Program, tmp_path: Path) -> None:
    write_fbp(tmp_path, scenes=1, tiles_per_scene=1, px=16)
    result = program("data", "stats", "fbp_cs", "--data", tmp_path, "--workers", 1)
    assert result.exit_code == 0, result
    for domain in ("planetscope", "gf1", "sentinel2"):
        told = f"band order of {domain} not checked against gf2: only 0 classes have 500 pixels in both"
        assert told in result.text
    assert "band order of gf2" not in result.text


def turn_files(files: dict[str, Written], beginning: str, order: Sequence[int]) -> None:
    for name, tile in files.items():
        if name.startswith(beginning):
            write_image(tile.image_path, np.ascontiguousarray(tile.image[..., list(order)]))


def test_files_with_flipped_bands(program: Program, tmp_path: Path) -> None:
    files = write_fbp(tmp_path, scenes=2)
    stats = ("data", "stats", "fbp_cs", "--data", tmp_path, "--workers", 1)
    clean = program(*stats)
    assert clean.exit_code == 0, clean
    assert "warning" not in clean.text
    turn_files(files, "crop_T", (3, 2, 1, 0))
    result = program(*stats)
    assert result.exit_code == 0, result
    warnings = [line for line in result.out.splitlines() if line.startswith("warning")]
    assert all(line.startswith("warning band order of sentinel2: ") for line in warnings)
    assert "brightest in band B, not in the near infrared" in warnings[0]
    assert "read as B, G, R, NIR its classes look like those of gf2" in warnings[1]
    turn_files(files, "GF2", (3, 2, 1, 0))
    result = program(*stats)
    assert "gf2: beside other classes" in result.text, "then the source and one target are wrong"
    assert result.text.count("its classes look like those of gf2") == 2, "the two targets that are right"


def test_prepared_files_with_flipped_bands(program: Program, tmp_path: Path) -> None:
    """As by a tool that takes BGR for RGB."""
    write_loveda(tmp_path / "clean", per_side=3)
    write_loveda(tmp_path / "flipped", per_side=3)
    archive = tmp_path / "flipped" / "Val.zip"
    with zipfile.ZipFile(archive) as file:
        files = {name: file.read(name) for name in file.namelist()}
    for name, data in files.items():
        if "images" in name:
            with Image.open(io.BytesIO(data)) as image:
                files[name] = png(np.ascontiguousarray(np.asarray(image)[..., ::-1]))
    zipped(archive, files)
    told = {}
    for raw in ("clean", "flipped"):
        data = tmp_path / f"data_{raw}"
        where = ("--raw", tmp_path / raw, "--out", data, "--tile", 64, "--workers", 1)
        assert program("data", "prepare", "loveda_r2u", *where).exit_code == 0
        result = program("data", "stats", "loveda_r2u", "--data", data, "--workers", 1)
        assert result.exit_code == 0, result
        told[raw] = result.text
    assert "warning" not in told["clean"]
    assert "warning band order of urban: read as B, G, R its classes look like those of rural" in told["flipped"]
