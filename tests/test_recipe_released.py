"""The recipe as released, by option: constants, channel order, bands for depth, distortion; and tasks' own recipes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from benchmarks.catalogue import FLAIR_CR, LOVEDA_R2U, TASKS, WHU_OHS_CR
from benchmarks.prepared.manifest import Manifest, load_manifest
from benchmarks.tasks import Sample, Task
from harness.bands import nearest_bands
from harness.lookup import find_method
from harness.pipeline import Statistics, evaluation_batches, input_statistics
from harness.plan import Request, make_plan
from harness.relevant import relevant
from harness.scales import SCALES, Protocol
from harness.segmentor import build_segmentor
from harness.trial import Trial
from harness.zoo import BACKBONES, RGB
from tests.aerial_files import write_flair
from tests.conftest import TINY, Program, Result, assert_refused
from tests.test_pipeline import CLASSES, CROP, PLAIN, Memory, batches, tile

LATER = {
    "depth_rgb": "released",
    "normalisation": "per_image",
    "channel_order": "bgr",
    "depth_model": "depth_anything",
    "precision": "bf16",
}


def trial(method: str, task: str, *settings: str) -> Trial:
    """The only trial of a request at scale test."""
    asked = Request(suite="smoke", scale="test", tasks=[task], methods=[method], settings=settings, seeds=1)
    (planned,) = make_plan(asked, None).trials
    return planned.trial


def files_protocol(task: Task, method: str = "spectralmoe", scale: str = "paper", **changes: Any) -> Protocol:
    """What a trial on a task's files would be run by."""
    protocol = SCALES[scale].protocol_of(task).change(changes)
    options = find_method(method).options_class.make({})
    source = task.files or replace(TASKS["fbp_cs"].files, title=task.title)
    return relevant(protocol, task, source, options, BACKBONES["dinov3"])


# --- What the tasks say


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_released_numbers_fit_the_bands(task: Task) -> None:
    released, bands = task.released, len(task.bands)
    assert len(released.mean) == len(released.std) == bands
    assert min(released.std) > 0
    assert set(released.depth_rgb) | set(released.float_jitter) <= set(range(bands))
    assert len(set(released.depth_rgb)) == 3
    assert len(released.float_jitter) in (0, 3)


def test_which_tasks_the_release_feeds_otherwise() -> None:
    differing = {
        name for name, task in TASKS.items() if tuple(nearest_bands(RGB, task.bands)) != task.released.depth_rgb
    }
    assert differing == {"whu_ohs_cr"}
    centres = [WHU_OHS_CR.bands[i].centre_um for i in WHU_OHS_CR.released.depth_rgb]
    assert centres == [0.480, 0.566, 0.686], "blue, green, red"
    assert [FLAIR_CR.bands[i].name for i in FLAIR_CR.released.depth_rgb] == ["R", "G", "B"]


def test_each_task_has_its_published_augmentation_at_scale_paper() -> None:
    edges = {
        "fbp_cs": [307, 358, 410, 461, 512, 563, 614],
        "loveda_r2u": [256, 307, 358, 410, 461, 512, 563, 614, 666, 717, 768, 819, 870, 922, 973, 1024],
        "whu_ohs_cr": [],
    }
    alike = {"fbp_cr": "fbp_cs", "flair_cr": "fbp_cs", "potsdam2vaihingen": "loveda_r2u", "oem_cc": "loveda_r2u"}
    for name, task in TASKS.items():
        protocol = SCALES["paper"].protocol_of(task)
        assert [round(512 * share) for share in protocol.resize] == edges[alike.get(name, name)]
        assert protocol.photometric == (name != "whu_ohs_cr")
        assert protocol.flip
        for scale in ("mini", "test"):
            assert SCALES[scale].protocol_of(task) == SCALES[scale].protocol, "synthetic tasks share one"


def test_what_the_user_sets_goes_over_the_tasks_own() -> None:
    own = files_protocol(WHU_OHS_CR)
    assert (own.resize, own.photometric) == ((), False)
    asked = files_protocol(WHU_OHS_CR, resize="0.8,1.0", photometric="true")
    assert (asked.resize, asked.photometric) == ((0.8, 1.0), True)


def test_the_tasks_own_recipe_is_no_label_and_another_is() -> None:
    one = replace(trial("frozen", "whu_ohs_cr"), scale=SCALES["paper"], protocol=files_protocol(WHU_OHS_CR, "frozen"))
    assert one.labels()["recipe"] == ""
    changed = replace(one, protocol=files_protocol(WHU_OHS_CR, "frozen", photometric=True))
    assert changed.labels()["recipe"] == "photometric=True"


# --- Keys


def test_fields_that_came_later_stand_in_the_key_only_where_they_differ() -> None:
    plain = trial("spectralmoe", "fbp_cs")
    assert not set(LATER) & set(plain.inputs()["protocol"])
    assert set(LATER) == set(Protocol.LATER)
    for name, value in LATER.items():
        default = str(getattr(plain.protocol, name))
        assert trial("spectralmoe", "fbp_cs", f"protocol.{name}={default}").key == plain.key
        changed = replace(plain, protocol=plain.protocol.change({name: value}))
        assert changed.inputs()["protocol"][name] == value
        assert changed.key != plain.key
    assert trial("spectralmoe", "fbp_cs", "protocol.photometric=true").inputs()["protocol"]["photometric"] is True


def test_what_changes_no_number_changes_no_key() -> None:
    assert trial("frozen", "whu_ohs_cr", "protocol.depth_rgb=released").key == trial("frozen", "whu_ohs_cr").key
    for task in ("fbp_cs", "whu_ohs_cr"):
        assert trial("frozen", task, "protocol.channel_order=bgr").key == trial("frozen", task).key
    assert trial("frozen", "oem_cc", "protocol.channel_order=bgr").key != trial("frozen", "oem_cc").key
    moe = "spectralmoe"
    assert trial(moe, "fbp_cs", "protocol.depth_rgb=released").key == trial(moe, "fbp_cs").key, "bands 1 to 3 both"
    assert trial(moe, "whu_ohs_cr", "protocol.depth_rgb=released").key != trial(moe, "whu_ohs_cr").key


def test_the_released_distortion_is_each_tasks_own() -> None:
    chosen = {name: files_protocol(task, photometric="released").photometric for name, task in TASKS.items()}
    four = dict.fromkeys(("fbp_cs", "fbp_cr", "flair_cr"), "released")
    three = dict.fromkeys(("loveda_r2u", "potsdam2vaihingen", "oem_cc"), True)
    assert chosen == {**four, **three, "whu_ohs_cr": False}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("protocol.normalisation=released", ("protocol.normalisation=released", "--data-root")),
        ("protocol.normalisation=target", ("protocol.normalisation=target", "source_stats")),
        ("protocol.channel_order=rgb", ("protocol.channel_order=rgb", "bgr")),
        ("protocol.depth_rgb=1,2,3", ("protocol.depth_rgb=1,2,3", "wavelength")),
        ("protocol.photometric=maybe", ("protocol.photometric=maybe", "boolean", "'released'")),
    ],
)
def test_wrong_words_are_refused(program: Program, tmp_path: Path, setting: str, words: tuple[str, ...]) -> None:
    assert_refused(program(*TINY, "--results", tmp_path, "--set", setting), *words)


@pytest.mark.parametrize("name", ["photometric", "depth_rgb", "normalisation"])
def test_a_task_that_was_never_released_says_so(name: str) -> None:
    own = replace(LOVEDA_R2U, name="mine", released=None)
    with pytest.raises(ValueError, match=rf"protocol\.{name}=released: task mine"):
        files_protocol(own, **{name: "released"})


# --- What they do


def test_each_image_by_its_own_valid_pixels() -> None:
    rng = np.random.default_rng(0)
    images = [(rng.uniform(100, 900, 4) + rng.normal(0, 20, (CROP, CROP, 4))).astype(np.uint16) for _ in range(3)]
    images[0][: CROP // 2] = 0  # fill
    images[2][:] = 0
    label = np.zeros((CROP, CROP), np.uint8)
    reader = Memory({tile(f"t{i}"): Sample(image=image, label=label) for i, image in enumerate(images)})
    tiles = reader.tiles("source")
    protocol = replace(PLAIN, normalisation="per_image", batch_size=3)
    statistics = input_statistics(protocol, TASKS["fbp_cs"], reader, tiles)
    (shown,) = evaluation_batches(reader, tiles, CLASSES, statistics, 3)
    for image, seen in zip(images[:2], shown.image.numpy(), strict=False):
        valid = image[image.any(-1)].astype(np.float64)
        expected = (image.astype(np.float64) - valid.mean(0)) / valid.std(0)
        np.testing.assert_allclose(seen.transpose(1, 2, 0), expected, atol=1e-4)
    assert not shown.image[2].any()
    assert torch.isfinite(shown.image).all()
    for batch in batches(reader, protocol, statistics, steps=2):
        for seen, ref in zip(batch.image, batch.tiles, strict=True):
            assert torch.equal(seen, shown.image[tiles.index(ref)])


def test_released_constants_normalise_where_they_are_asked_for() -> None:
    image = np.arange(CROP * CROP * 3, dtype=np.float32).reshape(CROP, CROP, 3).astype(np.uint8)
    reader = Memory({tile("one"): Sample(image=image, label=np.zeros((CROP, CROP), np.uint8))})
    statistics = input_statistics(replace(PLAIN, normalisation="released"), LOVEDA_R2U, reader, reader.tiles("source"))
    assert statistics == Statistics(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


def test_bgr_reverses_the_bands_and_not_the_numbers() -> None:
    """In training and in evaluation; the distortion of colours comes before."""
    image = np.zeros((CROP, CROP, 3), np.uint8)
    image[...] = 100, 150, 200
    reader = Memory({tile("one"): Sample(image=image, label=np.zeros((CROP, CROP), np.uint8))})
    protocol = replace(PLAIN, channel_order="bgr", normalisation="released", batch_size=1)
    statistics = input_statistics(protocol, LOVEDA_R2U, reader, reader.tiles("source"))
    (shown,) = evaluation_batches(reader, reader.tiles("source"), CLASSES, statistics, 1)
    expected = [(200 - 123.675) / 58.395, (150 - 116.28) / 57.12, (100 - 103.53) / 57.375]
    np.testing.assert_allclose(shown.image[0, :, 0, 0].numpy(), expected, rtol=1e-5)
    (trained,) = batches(reader, protocol, statistics, task=LOVEDA_R2U, steps=1)
    assert torch.equal(trained.image, shown.image)
    turned = replace(protocol, photometric=True)
    straight = replace(statistics, reverse=False, mean=(0.0,) * 3, std=(1.0,) * 3)
    for one, other in zip(
        batches(reader, turned, straight, task=LOVEDA_R2U),
        batches(reader, turned, replace(straight, reverse=True), task=LOVEDA_R2U),
        strict=True,
    ):
        assert torch.equal(one.image.flip(1), other.image)


def test_the_protocol_decides_which_bands_the_depth_encoder_sees() -> None:
    chosen = {
        (task, value): build_segmentor(trial("depth_add", task, f"protocol.depth_rgb={value}")).rgb
        for task in ("whu_ohs_cr", "flair_cr")
        for value in ("wavelength", "released")
    }
    assert chosen == {
        ("whu_ohs_cr", "wavelength"): [13, 6, 1],
        ("whu_ohs_cr", "released"): [1, 6, 14],
        ("flair_cr", "wavelength"): [0, 1, 2],
        ("flair_cr", "released"): [0, 1, 2],
    }


def test_a_trial_by_the_released_recipe_runs_and_says_so(program: Program, tmp_path: Path) -> None:
    released = [f"protocol.{name}={value}" for name, value in LATER.items()] + ["protocol.photometric=released"]
    settings = [word for setting in released for word in ("--set", setting)]
    given = ("--suite", "smoke", "--seeds", 1, *TINY[2:], "--backbone", "dinov3", "--method", "depth_add")
    for task, told in (("flair_cr", "photometric=released, normalisation=per_image"), ("oem_cc", "channel_order=bgr")):
        result = program(*given, "--task", task, "--results", tmp_path / task, *settings)
        assert result.exit_code == 0, result
        assert told in result.text


def test_the_released_distortion_of_other_tiles_than_bytes_is_refused_once(program: Program, tmp_path: Path) -> None:
    """Before anything is trained: it would fail in every trial."""
    write_flair(tmp_path / "raw")
    where = ("--raw", tmp_path / "raw", "--out", tmp_path, "--tile", 64, "--workers", 1)
    assert program("data", "prepare", "flair_cr", *where).exit_code == 0
    path = tmp_path / "flair_cr" / "manifest.jsonl"
    manifest = load_manifest(path)
    rows = []
    for row in manifest.tiles:
        file = path.parent / row.image
        wide = 9 * tifffile.imread(file).astype(np.uint16)
        tifffile.imwrite(file, wide, photometric="minisblack", planarconfig="contig", metadata=None)
        rows.append(replace(row, image_sha256=hashlib.sha256(file.read_bytes()).hexdigest()))
    header = replace(manifest.header, dtype="uint16")
    path.write_bytes(Manifest(header=header, tiles=tuple(rows)).dump())
    asked = ("--suite", "smoke", "--seeds", 2, *TINY[2:], "--backbone", "dinov3", "--method", "frozen", "--task")
    files = ("flair_cr", "--data-root", tmp_path, "--results", tmp_path / "results", "--set")
    for _ in range(2):  # also when the files have been checked already
        result = program(*asked, *files, "protocol.photometric=released")
        assert_refused_after_plan(result, "flair_cr", "photometric=released", "uint16, not 8-bit", "True or False")
        assert not list((tmp_path / "results" / "test" / "records").glob("*.json"))
    result = program(*asked, *files, "protocol.photometric=true")
    assert result.exit_code == 0, result
    assert program(*asked, *files, "protocol.photometric=released").exit_code == 2


def assert_refused_after_plan(result: Result, *words: str) -> None:
    """Exit code 2, one message, no traceback; the plan was shown before."""
    assert result.exit_code == 2, result
    assert "Traceback" not in result.text
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.err
    for word in words:
        assert word in errors[0]


def test_the_released_distortion_is_used_in_training() -> None:
    """Bands 1 to 3 of FLAIR in place of its colours, and other pixels than the sound distortion gives."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 200, (CROP, CROP, 4)).astype(np.uint8)
    reader = Memory({tile("one"): Sample(image=image, label=np.zeros((CROP, CROP), np.uint8))})
    shown = {
        how: torch.cat([b.image for b in batches(reader, replace(PLAIN, photometric=how), task=FLAIR_CR, steps=6)])
        for how in (True, False, "released")
    }
    moved = {how: [bool((images[:, i] != shown[False][:, i]).any()) for i in range(4)] for how, images in shown.items()}
    assert moved[True] == [True, True, True, False]
    assert moved["released"] == [False, True, True, True]
