"""What lies beside a record: the trained weights that its numbers come from, and the panels of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.tasks import IGNORE, Sample, TileRef
from harness.panels import PANELS, choose_tiles, make_panels
from harness.pipeline import Statistics, evaluation_batches, source_statistics
from harness.plan import Request, make_plan
from harness.records import Record, RecordStore
from harness.restore import restore_model
from harness.segmentor import build_segmentor
from harness.split import SOURCE_VAL, split_tiles
from harness.stretch import stretch
from harness.trial import Trial


@pytest.fixture(scope="module")
def finished(smoke_results: Path) -> dict[str, tuple[Trial, Record, RecordStore]]:
    """The smoke trials with their records, by method."""
    store = RecordStore(smoke_results / "test" / "records")
    plan = make_plan(Request(suite="smoke", scale="test"), store)
    found = {}
    for planned in plan.trials:
        record = store.load(planned.trial.key)
        assert record
        found[planned.trial.method.name] = planned.trial, record, store
    return found


@pytest.mark.parametrize("method", ["frozen", "lora", "rein", "spectralmoe"])
def test_the_weights_beside_a_record_make_its_numbers_again(
    finished: dict[str, tuple[Trial, Record, RecordStore]], method: str
) -> None:
    trial, record, store = finished[method]
    model = build_segmentor(replace(trial, seed=trial.seed + 1))  # nothing may be left of another seed's start
    model.load_trained({name: torch.from_numpy(a) for name, a in store.attachment(record, "weights").items()})
    reader = trial.open_reader()
    split = split_tiles(reader, trial.data.source, trial.data.targets, trial.protocol.max_tiles)
    statistics = Statistics(**{name: tuple(values) for name, values in record.result["statistics"].items()})
    assert statistics == source_statistics(reader, split.train)
    model.eval()
    step = record.result["selections"][SOURCE_VAL]["step"]
    right = total = 0
    for batch in evaluation_batches(reader, split.source_val, trial.data.classes, statistics, 16):
        predicted, label = model.predict(batch.image), batch.label
        right += int((predicted == label).sum())
        total += int((label != IGNORE).sum())
    areas = record.arrays[f"areas/{step}"][: len(split.source_val)].sum((0, 1))
    assert (right, total) == (areas[0], areas[2])


def test_panels_show_what_the_reader_gives_and_the_model_predicts(
    finished: dict[str, tuple[Trial, Record, RecordStore]],
) -> None:
    trial, record, store = finished["spectralmoe"]
    arrays, reader = store.attachment(record, "panels"), trial.open_reader()
    tiles = [TileRef(**tile) for tile in record.result["panels"]]
    assert len(tiles) == PANELS
    assert {tile.domain for tile in tiles} == set(trial.data.targets)
    areas = record.arrays[f"areas/{record.result['selections'][SOURCE_VAL]['step']}"]
    known = record.result["tiles"]
    for i, tile in enumerate(tiles):
        sample = reader.read(tile)
        np.testing.assert_array_equal(arrays[f"{i}/truth"], sample.label)
        assert arrays[f"{i}/image"].shape == (*sample.label.shape, 3)
        row = next(n for n, name in enumerate(known["name"]) if (known["domain"][n], name) == (tile.domain, tile.name))
        right = (arrays[f"{i}/prediction"] == sample.label).sum()
        assert right == areas[row, :, 0].sum()


def test_panels_hold_where_which_expert_serves(finished: dict[str, tuple[Trial, Record, RecordStore]]) -> None:
    trial, record, store = finished["spectralmoe"]
    arrays = store.attachment(record, "panels")
    maps = {name: array for name, array in arrays.items() if "/most/" in name}
    assert {name.split("/")[2] for name in maps} == {"visual", "depth"}
    experts = trial.options.experts  # type: ignore[attr-defined]
    assert all(array.max() < experts for array in maps.values())
    shares = {name: array for name, array in arrays.items() if name.startswith("share/")}
    assert len(shares) == 2 * 6
    for share in shares.values():
        assert share.shape == (experts,)
        assert share.sum() == pytest.approx(1, abs=1e-5)
    assert not any("most" in name for name in store.attachment(finished["frozen"][1], "panels"))


def test_all_methods_of_a_task_show_the_same_tiles(finished: dict[str, tuple[Trial, Record, RecordStore]]) -> None:
    shown = [record.result["panels"] for _, record, _ in finished.values()]
    assert all(tiles == shown[0] for tiles in shown)


def test_watching_a_model_changes_nothing(finished: dict[str, tuple[Trial, Record, RecordStore]]) -> None:
    trial, record, store = finished["spectralmoe"]
    model, statistics = restore_model(trial, record, store)
    reader = trial.open_reader()
    split = split_tiles(reader, trial.data.source, trial.data.targets, 2)
    seen: list[tuple[torch.Tensor, list[torch.Tensor]]] = []
    hook = model.register_forward_hook(lambda _, given, out: seen.append((given[0], out[0])))
    watched = make_panels(model, reader, split, statistics, trial.task, trial.data.classes)
    assert model.method.observed is None
    assert any("/most/" in name for name in watched.arrays), "it was watched"
    tiles = [TileRef(**tile) for tile in watched.tiles]
    for i, batch in enumerate(evaluation_batches(reader, tiles, trial.data.classes, statistics, 1)):
        np.testing.assert_array_equal(watched.arrays[f"{i}/prediction"], model.predict(batch.image)[0].numpy())
    hook.remove()
    for image, maps in seen[:4]:
        with torch.no_grad():
            unwatched, _ = model(image)
        # a few steps of training move scores more than labels
        assert all(torch.equal(one, other) for one, other in zip(maps, unwatched, strict=True))


def test_a_missing_or_damaged_attachment_is_named(
    finished: dict[str, tuple[Trial, Record, RecordStore]], smoke_copy: Path
) -> None:
    _, record, _ = finished["frozen"]
    store = RecordStore(smoke_copy / "test" / "records")
    path = store.folder / f"{record.key}.weights.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"weights\.safetensors does not match its hash"):
        store.attachment(record, "weights")
    path.unlink()
    with pytest.raises(ValueError, match=r"weights\.safetensors cannot be read"):
        store.attachment(record, "weights")
    assert store.load(record.key), "the numbers do not depend on it"
    older = {name: value for name, value in record.result.items() if name != "attachments"}
    with pytest.raises(ValueError, match="has no weights: an older version made it"):
        store.attachment(replace(record, result=older), "weights")


class Tiles:
    """A domain whose tile i has i mod 5 classes."""

    def read(self, tile: TileRef) -> Sample:
        label = np.full((4, 5), IGNORE, np.uint8)
        label[0, : int(tile.name) % 5] = range(int(tile.name) % 5)
        return Sample(image=np.ones((4, 5, 3), np.uint8), label=label)


def test_tiles_with_many_classes_are_shown_spread_over_every_domain() -> None:
    tiles = {name: [TileRef(domain=name, scene="s", name=str(i)) for i in range(100)] for name in ("a", "b", "c", "d")}
    shown, looked_at = choose_tiles(Tiles(), tiles)  # type: ignore[arg-type]
    assert [tile.domain for tile in shown] == ["a", "b", "c", "d"]
    assert len(looked_at) == 16
    assert {tile.name for tile in looked_at} == {"0", "25", "50", "75"}
    one, looked_at = choose_tiles(Tiles(), {"a": tiles["a"][:7]})  # type: ignore[arg-type]
    assert {tile.name for tile in one} == {"1", "2", "3", "4", "6", "0"}
    assert len(looked_at) == 7


def test_an_image_is_stretched_from_its_valid_pixels() -> None:
    image = np.zeros((10, 11, 2), np.uint16)
    image[:, :10, 0] = np.arange(1, 101).reshape(10, 10)
    image[:, :10, 1] = 7
    shown = stretch(image)
    assert shown.dtype == np.uint8
    assert (shown[:, 10] == 0).all()
    assert shown[0, 0, 0] == 0
    assert shown[9, 9, 0] == 255
    assert shown[4, 9, 0] == pytest.approx(127, abs=2)
    assert (stretch(np.zeros((2, 2, 3), np.uint8)) == 0).all()
