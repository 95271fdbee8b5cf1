"""The reader of Five-Billion-Pixels: what it reads back, and what it refuses in which words."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks.datasets.fbp import CLASSES, PALETTE, SOURCE, TARGETS, open_fbp
from benchmarks.datasets.tiff import RawTiff, read_tiff
from benchmarks.tasks import IGNORE, TileRef
from tests.fbp_files import SCENES, Written, write_fbp, write_image, write_label

TILE = "GF2_PMS1__L1A0001064454-MSS1_r001_c001"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Written]:
    """A small data set below `tmp_path`."""
    return write_fbp(tmp_path, scenes=2)


def read(root: Path, name: str = TILE) -> tuple[np.ndarray, np.ndarray]:
    """Read one source tile by name."""
    reader = open_fbp(root)
    sample = reader.read(next(tile for tile in reader.tiles(SOURCE) if tile.name == name))
    return sample.image, sample.label


def refuses(act: Callable[[], object], *words: str) -> None:
    """The act must raise a `ValueError` of one or two lines with all the words and a remedy, and warn of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=";") as caught:
            act()
    message = str(caught.value)
    assert message.count("\n") <= 1
    for word in words:
        assert word in message


def test_legend_has_24_classes_and_colours() -> None:
    assert len(CLASSES) == len(PALETTE) == len(set(PALETTE)) == 24
    assert (CLASSES[0], PALETTE[0], CLASSES[23], PALETTE[23]) == (
        "industrial area",
        (200, 0, 0),
        "airport",
        (200, 150, 0),
    )


@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
def test_reads_back_what_was_written(tmp_path: Path, compression: str | None) -> None:
    files = write_fbp(tmp_path, compression=compression)
    reader = open_fbp(tmp_path)
    tiles = [tile for domain in (SOURCE, *TARGETS) for tile in reader.tiles(domain)]
    assert {tile.name for tile in tiles} == set(files)
    for tile in tiles:
        sample, wrote = reader.read(tile), files[tile.name]
        assert sample.image.dtype == sample.label.dtype == np.uint8
        assert sample.image.flags.carray
        np.testing.assert_array_equal(sample.image, wrote.image)
        np.testing.assert_array_equal(sample.label[wrote.raw == 0], IGNORE)
        np.testing.assert_array_equal(sample.label[wrote.raw > 0], wrote.raw[wrote.raw > 0] - 1)


def test_bands_are_the_bytes_that_pil_sees_in_cmyk_mode(tmp_path: Path, files: dict[str, Written]) -> None:
    with Image.open(files[TILE].image_path) as image:
        assert image.mode == "CMYK"
        assert image.tobytes() == read(tmp_path)[0].tobytes()


def test_reads_tiles_cut_by_pil(tmp_path: Path, files: dict[str, Written]) -> None:
    image = files[TILE].image
    Image.frombytes("CMYK", image.shape[1::-1], image.tobytes()).save(files[TILE].image_path)
    np.testing.assert_array_equal(read(tmp_path)[0], image)


@pytest.mark.parametrize(
    "options",
    [{"tile": (16, 16)}, {"rowsperstrip": 5}, {"rowsperstrip": 5, "compression": "zstd", "predictor": True}],
    ids=["tiled", "strips", "predictor"],
)
def test_reads_other_storage(tmp_path: Path, files: dict[str, Written], options: dict[str, object]) -> None:
    write_image(files[TILE].image_path, files[TILE].image, **options)
    np.testing.assert_array_equal(read(tmp_path)[0], files[TILE].image)


def test_reads_planar_storage(tmp_path: Path, files: dict[str, Written]) -> None:
    planes = np.ascontiguousarray(np.moveaxis(files[TILE].image, -1, 0))
    write_image(files[TILE].image_path, planes, planarconfig="separate")
    np.testing.assert_array_equal(read(tmp_path)[0], files[TILE].image)


def test_domains_scenes_and_order(tmp_path: Path, files: dict[str, Written]) -> None:
    reader = open_fbp(tmp_path)
    for domain, names in SCENES.items():
        tiles = reader.tiles(domain)
        assert {tile.scene for tile in tiles} == set(names[:2])
        assert [tile.name for tile in tiles] == sorted(tile.name for tile in tiles)
        assert len(tiles) == 4
    assert reader.tiles("gf1")[0].name.startswith("crop_GF1_PMS1_E114.0_N30.5")


def test_labels_of_both_modes_are_in_the_fixture(files: dict[str, Written]) -> None:
    modes = set()
    for tile in files.values():
        with Image.open(tile.label_path) as label:
            modes.add(label.mode)
    assert modes == {"P", "L"}


def test_other_files_are_passed_over(tmp_path: Path, files: dict[str, Written]) -> None:
    fingerprint = open_fbp(tmp_path).fingerprint
    for name in ("Thumbs.db", "._a.tif", "a.tif.aux.xml"):
        (files[TILE].image_path.parent / name).write_bytes(b"x")
    assert open_fbp(tmp_path).fingerprint == fingerprint


def test_check_reads_each_file_once(tmp_path: Path, files: dict[str, Written], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def counted(path: Path) -> RawTiff:
        seen.append(path)
        return read_tiff(path)

    monkeypatch.setattr("benchmarks.datasets.fbp.read_tiff", counted)
    reader, calls = open_fbp(tmp_path), []
    tiles = reader.tiles(SOURCE)
    reader.check(tiles, lambda: calls.append(1))
    assert len(calls) == len(tiles) == len(seen) == len(set(seen))


def test_check_stops_at_the_first_defect(tmp_path: Path, files: dict[str, Written]) -> None:
    reader, calls = open_fbp(tmp_path), []
    tiles = reader.tiles(SOURCE)
    write_image(files[tiles[1].name].image_path, np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    refuses(lambda: reader.check(tiles, lambda: calls.append(1)), tiles[1].name)
    assert len(calls) == 1


# Fingerprint


def test_fingerprint_follows_names_and_sizes_only(tmp_path: Path) -> None:
    files = write_fbp(tmp_path / "a")
    first = open_fbp(tmp_path / "a").fingerprint
    assert len(first) == 16
    assert set(first) <= set("0123456789abcdef")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert open_fbp(tmp_path / "b").fingerprint == first
    path = files[TILE].image_path
    with path.open("ab") as stream:
        stream.write(b"\0")
    longer = open_fbp(tmp_path / "a").fingerprint
    for old, suffix in ((files[TILE].image_path, ".tif"), (files[TILE].label_path, ".png")):
        old.rename(old.with_name(TILE.replace("r001", "r002") + suffix))
    renamed = open_fbp(tmp_path / "a").fingerprint
    assert len({first, longer, renamed}) == 3


# Layout


def test_missing_folders(tmp_path: Path, files: dict[str, Written]) -> None:
    refuses(
        lambda: open_fbp(tmp_path / "nowhere"), "--data-root must be the folder that holds GID", "data prepare fbp_cs"
    )
    refuses(lambda: open_fbp(tmp_path / "GID"), "source_dir, target_dir", "GID/source_dir")
    shutil.rmtree(tmp_path / "GID" / "target_dir" / "label")
    refuses(lambda: open_fbp(tmp_path), "no folder", ".png")
    shutil.rmtree(tmp_path / "GID" / "target_dir")
    refuses(lambda: open_fbp(tmp_path), "target_dir")


def test_empty_folder_names_what_lies_there(tmp_path: Path, files: dict[str, Written]) -> None:
    labels = files[TILE].label_path.parent
    for path in labels.iterdir():
        path.rename(path.with_suffix(".jpg"))
    refuses(lambda: open_fbp(tmp_path), str(labels), "found: 4 .jpg")
    shutil.rmtree(labels)
    labels.mkdir()
    refuses(lambda: open_fbp(tmp_path), "found: nothing")


def test_lonely_files(tmp_path: Path) -> None:
    files = write_fbp(tmp_path)
    labels = [tile.label_path for name, tile in files.items() if name.startswith("GF2")][:5]
    for path in labels:
        path.rename(path.with_name(path.name.replace("_r001", "_24label_r001")))
    refuses(lambda: open_fbp(tmp_path), "images without a label", labels[2].stem + ", ... (5 in all)", "_24label")
    for path in labels:
        (path.with_name(path.name.replace("_r001", "_24label_r001"))).rename(path)
    files[TILE].image_path.unlink()
    refuses(lambda: open_fbp(tmp_path), "labels without an image", TILE)


def test_broken_links_and_twin_suffixes(tmp_path: Path, files: dict[str, Written]) -> None:
    path = files[TILE].image_path
    shutil.copy(path, path.with_suffix(".TIFF"))
    refuses(lambda: open_fbp(tmp_path), "two suffixes", TILE)
    path.unlink()
    path.symlink_to(tmp_path / "gone.tif")
    refuses(lambda: open_fbp(tmp_path), "links to nothing", TILE)


@pytest.mark.parametrize(
    ("name", "words"),
    [("wuhan_r001_c001", "T50TMK_... Sentinel-2"), (f"crop_{TILE}", "move it to source_dir")],
)
def test_targets_of_no_known_sensor(tmp_path: Path, files: dict[str, Written], name: str, words: str) -> None:
    target = tmp_path / "GID" / "target_dir"
    shutil.copy(files[TILE].image_path, target / "image" / f"{name}.tif")
    shutil.copy(files[TILE].label_path, target / "label" / f"{name}.png")
    refuses(lambda: open_fbp(tmp_path), name, words)


def test_a_scene_on_both_sides(tmp_path: Path, files: dict[str, Written]) -> None:
    name = f"crop_{SCENES['gf1'][0]}_r001_c001"
    source = tmp_path / "GID" / "source_dir"
    shutil.copy(files[name].image_path, source / "image" / f"{SCENES['gf1'][0]}_r009_c009.tif")
    shutil.copy(files[name].label_path, source / "label" / f"{SCENES['gf1'][0]}_r009_c009.png")
    refuses(lambda: open_fbp(tmp_path), SCENES["gf1"][0], "source_dir and in target_dir")


def test_unknown_domain_and_tile(tmp_path: Path, files: dict[str, Written]) -> None:
    reader = open_fbp(tmp_path)
    refuses(lambda: reader.tiles("landsat"), "landsat", "planetscope 4")
    refuses(lambda: reader.read(TileRef(domain=SOURCE, scene="none", name="none")), "'none'")


# Images


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (np.full((64, 64, 3), 9, np.uint8), {"photometric": "rgb"}, ["3 band(s), expected 4"]),
        (np.full((64, 64), 9, np.uint8), {"photometric": "minisblack"}, ["1 band(s), expected 4"]),
        (np.full((64, 64, 5), 9, np.uint8), {"extrasamples": [0]}, ["5 band(s), expected 4"]),
        (np.full((64, 64, 4), 9, np.uint16), {}, ["uint16, expected uint8", "16-bit"]),
        (
            np.full((64, 64, 4), 9, np.uint8),
            {"photometric": "rgb", "extrasamples": ["unassalpha"]},
            ["tagged RGB, expected CMYK", "NIR lost or inverted", "8-bit NIR,R,G,B"],
        ),
        (
            np.full((64, 64, 4), 9, np.uint8),
            {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [0, 0, 0]},
            ["'minisblack', expected CMYK"],
        ),
    ],
    ids=["rgb", "grey", "five", "uint16", "rgba", "untagged"],
)
def test_refused_images(
    tmp_path: Path, files: dict[str, Written], image: np.ndarray, options: dict[str, object], words: list[str]
) -> None:
    path = files[TILE].image_path
    write_image(path, image, **options)
    refuses(lambda: read(tmp_path), str(path), *words)


def test_band_4_of_a_converted_image(tmp_path: Path, files: dict[str, Written]) -> None:
    image = files[TILE].image.copy()
    image[..., 3] = 255
    write_image(files[TILE].image_path, image)
    refuses(lambda: read(tmp_path), TILE, "band 4 is 255 everywhere")
    image[..., 1:] = (230, 240, 255)
    write_image(files[TILE].image_path, image)
    np.testing.assert_array_equal(read(tmp_path)[0], image)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
def test_truncated_image(tmp_path: Path, files: dict[str, Written], compression: str | None) -> None:
    path = files[TILE].image_path
    write_image(path, files[TILE].image, compression=compression, rowsperstrip=16)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    refuses(lambda: read(tmp_path), TILE, f"truncated: it has {len(whole) - 100} bytes", str(len(whole)))
    for size in (5, 50, 150):
        path.write_bytes(whole[:size])
        refuses(lambda: read(tmp_path), TILE, "is a damaged TIFF")


@pytest.mark.parametrize("compression", ["lzw", "deflate"])
def test_undecodable_image(tmp_path: Path, files: dict[str, Written], compression: str) -> None:
    path = files[TILE].image_path
    write_image(path, files[TILE].image, compression=compression)
    with tifffile.TiffFile(path) as file:
        offset = file.pages.first.dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 200] = b"\xff" * 200
    path.write_bytes(data)
    refuses(lambda: read(tmp_path), TILE, "cannot be decoded", "copy or unpack")


def test_strips_never_written(tmp_path: Path, files: dict[str, Written]) -> None:
    path = files[TILE].image_path
    write_image(path, files[TILE].image, rowsperstrip=16, compression="lzw")
    with tifffile.TiffFile(path, mode="r+") as file:
        offsets = list(file.pages.first.dataoffsets)
        file.pages.first.tags["StripOffsets"].overwrite([*offsets[:-1], 0])
    refuses(lambda: read(tmp_path), TILE, "1 of its 4 strips")


def test_too_few_bytes_or_strips_listed(
    tmp_path: Path, files: dict[str, Written], caplog: pytest.LogCaptureFixture
) -> None:
    path = files[TILE].image_path
    write_image(path, files[TILE].image)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["StripByteCounts"].overwrite([100])
    refuses(lambda: read(tmp_path), "lists 100 of its 16384 bytes")
    write_image(path, files[TILE].image, compression="lzw")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["RowsPerStrip"].overwrite(8)
    caplog.clear()
    refuses(lambda: read(tmp_path), "lists 1 of its 8 strips")
    assert not caplog.records


@pytest.mark.parametrize(("content", "words"), [(b"", "it is empty"), (b"version https://", "begins with b'vers'")])
def test_not_a_tiff(tmp_path: Path, files: dict[str, Written], content: bytes, words: str) -> None:
    files[TILE].image_path.write_bytes(content)
    refuses(lambda: read(tmp_path), TILE, "is not a TIFF", words)


def test_image_gone_after_opening(tmp_path: Path, files: dict[str, Written]) -> None:
    reader = open_fbp(tmp_path)
    files[TILE].image_path.unlink()
    refuses(lambda: reader.read(reader.tiles(SOURCE)[0]), "cannot be opened")


# Labels


def test_size_mismatch(tmp_path: Path, files: dict[str, Written]) -> None:
    write_label(files[TILE].label_path, files[TILE].raw[:32], mode="L")
    refuses(lambda: read(tmp_path), TILE, "64 x 32", "64 x 64")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16", "1"])
def test_labels_that_are_not_an_index(tmp_path: Path, files: dict[str, Written], mode: str) -> None:
    Image.new(mode, (64, 64)).save(files[TILE].label_path)
    refuses(lambda: read(tmp_path), TILE, f"mode {mode}", "PALETTE")


@pytest.mark.parametrize("mode", ["P", "L"])
def test_label_values_above_24(tmp_path: Path, files: dict[str, Written], mode: str) -> None:
    raw = files[TILE].raw.copy()
    raw[0, 0] = 25
    label = Image.frombytes(mode, (64, 64), raw.tobytes())
    if mode == "P":
        label.putpalette(list(range(256)) * 3)
    label.save(files[TILE].label_path)
    refuses(lambda: read(tmp_path), TILE, "value 25", "to 24")


def test_damaged_labels(tmp_path: Path, files: dict[str, Written]) -> None:
    path = files[TILE].label_path
    whole = path.read_bytes()
    for content in (b"", b"nothing", whole[:20], whole[: len(whole) // 2]):
        path.write_bytes(content)
        refuses(lambda: read(tmp_path), TILE, "is not a PNG, or a damaged one")


def test_importing_the_reader_imports_no_torch() -> None:
    code = "import sys, benchmarks.datasets.fbp; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0
