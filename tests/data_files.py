"""Writes small copies of data sets in their official layouts: true names, archives, encodings and tags."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from benchmarks.prepared.labels import load_labels
from benchmarks.prepared.manifest import Manifest, load_manifest
from tests.conftest import Program, Result
from tests.fbp_files import SCENES, write_image, write_label

Image8 = npt.NDArray[np.uint8]


def command(task: str, root: Path, *more: object, out: str = "data", tile: int = 64) -> list[object]:
    """The words that prepare `root/raw` into `root/OUT`, in tiles of 64 pixels, as the copies are small."""
    where = ("--raw", root / "raw", "--out", root / out, "--tile", tile, "--workers", 1)
    return ["data", "prepare", task, *where, *more]


def prepare(task: str, program: Program, root: Path, *more: object, out: str = "data", tile: int = 64) -> Result:
    """Run `command`."""
    return program(*command(task, root, *more, out=out, tile=tile))


def manifest(task: str, root: Path, out: str = "data") -> Manifest:
    """What was prepared by it."""
    return load_manifest(root / out / task / "manifest.jsonl")


def blobs(
    rng: np.random.Generator, height: int, width: int, colours: Mapping[int, tuple[int, ...]]
) -> tuple[Image8, Image8]:
    """Blobs around random points, each of one raw label value: image [H, W, bands] without zeros, label [H, W]."""
    points = rng.uniform((0, 0), (height, width), size=(12, 2))
    values = rng.permutation(np.resize(list(colours), len(points)))
    rows, cols = np.mgrid[:height, :width]
    distance = (rows[..., None] - points[:, 0]) ** 2 + (cols[..., None] - points[:, 1]) ** 2
    label = values[distance.argmin(-1)].astype(np.uint8)
    table = np.zeros((256, len(next(iter(colours.values())))))
    for value, colour in colours.items():
        table[value] = colour
    image = np.clip(table[label] + rng.normal(0, 10, (height, width, table.shape[1])), 1, 254)
    return image.astype(np.uint8), label


def png(pixels: Image8) -> bytes:
    """A PNG of mode L or RGB."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def colours(name: str) -> dict[int, tuple[int, ...]]:
    """The legend's colours by raw value, kept away from black and white."""
    return {
        value.raw: tuple(40 + round(channel * 0.7) for channel in value.colour) for value in load_labels(name).values
    }


def zipped(path: Path, files: Mapping[str, bytes]) -> None:
    """Write an archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def write_loveda(raw: Path, *, per_side: int = 2, px: int = 128, seed: int = 0) -> dict[str, tuple[Image8, Image8]]:
    """`Train.zip`, `Val.zip` and a `Test.zip` without masks; returns image and mask of what a default run prepares."""
    rng = np.random.default_rng(seed)
    first = {("Train", "Rural"): 0, ("Train", "Urban"): 1366, ("Val", "Rural"): 2522, ("Val", "Urban"): 3514}
    written: dict[str, tuple[Image8, Image8]] = {}
    for split in ("Train", "Val"):
        files: dict[str, bytes] = {}
        for side in ("Rural", "Urban"):
            for number in range(first[split, side], first[split, side] + per_side):
                image, mask = blobs(rng, px, px, colours("loveda7"))
                image[mask == 0] = 0
                files[f"{split}/{side}/images_png/{number}.png"] = png(image)
                files[f"{split}/{side}/masks_png/{number}.png"] = png(mask)
                if (split, side) in (("Train", "Rural"), ("Val", "Urban")):
                    written[f"{split.lower()}_{side.lower()}_{number}"] = image, mask
        zipped(raw / f"{split}.zip", files)
    zipped(raw / "Test.zip", {"Test/Rural/images_png/4191.png": png(np.full((px, px, 3), 9, np.uint8))})
    return written


def write_fbp_official(
    raw: Path, *, px: int = 128, target_px: int = 88, seed: int = 0
) -> dict[str, tuple[Image8, Image8]]:
    """The authors' folders with margins, CMYK tags and both encodings of labels.

    Returns:
        Annotated image and raw label of each GF-2 scene; image and raw label of each megacity image.
    """
    rng = np.random.default_rng(seed)
    legend = {k: (*c[:1], *c) for k, c in colours("fbp24").items() if k in (0, 1, 3, 6, 12, 13, 21)}
    palette = np.array([value.colour for value in load_labels("fbp24").values], np.uint8)
    written: dict[str, tuple[Image8, Image8]] = {}
    for folder in ("Image__8bit_NirRGB", "Annotation__index", "megacities/image", "megacities/label"):
        (raw / folder).mkdir(parents=True)
    for i, stem in enumerate(SCENES["gf2"][:3]):
        image, label = blobs(rng, px + 20, px + 20, legend)
        whole, raw_label = (np.pad(a, ((54, 54), (60, 40), *[(0, 0)] * (a.ndim - 2))) for a in (image, label))
        write_image(raw / "Image__8bit_NirRGB" / f"{stem}{('.tif', '.tiff')[i % 2]}", whole)
        write_label(raw / "Annotation__index" / f"{stem}_24label.png", raw_label, mode="PL"[i % 2])
        written[stem] = image, label
    for i, stem in enumerate(stem for domain in ("planetscope", "gf1", "sentinel2") for stem in SCENES[domain][:2]):
        image, label = blobs(rng, target_px, target_px + 10 * i, legend)
        step = target_px // 44
        label[: step * i], label[:, : step * i], label[40 * step :] = 0, 0, 0  # labelled densely in a part only
        write_image(raw / "megacities" / "image" / f"{stem}.tif", image)
        coded = palette[label] if i % 2 else label  # which of the two the authors give is not known
        tifffile.imwrite(raw / "megacities" / "label" / f"{stem}.tif", coded, metadata=None)
        written[stem] = image, label
    return written


def write_isprs(raw: Path, *, px: int = 150, ending: str = "_noBoundary", seed: int = 0) -> dict[str, Any]:
    """The four archives: GeoTIFFs of Potsdam, areas of Vaihingen of other sizes, labels in colours.

    Returns:
        Image and raw label of each scene, by the name that it has when prepared.
    """
    rng = np.random.default_rng(seed)
    palette = np.array([value.colour for value in load_labels("isprs6").values], np.uint8)
    files: dict[str, dict[str, bytes]] = {"images": {}, "labels": {}, "top": {}, "truth": {}}
    written: dict[str, Any] = {}
    for i, key in enumerate(("2_10", "6_7", "7_10")):
        image, label = blobs(rng, px, px, colours("isprs6"))
        place = {"epsg": 25833, "left": 366_676.0 + 300 * i, "top": 5_808_000.0, "step": 0.05}
        files["images"][f"2_Ortho_RGB/top_potsdam_{key}_RGB.tif"] = tiff(image, **place)
        files["labels"][f"5_Labels_all/top_potsdam_{key}_label{ending}.tif"] = tiff(palette[label])
        written[f"top_potsdam_{key}"] = image, label
    for key in (1, 2, 38):
        image, label = blobs(rng, px + 10 + key, px - 20, colours("isprs6"))
        files["top"][f"top/top_mosaic_09cm_area{key}.tif"] = tiff(image)
        files["truth"][f"top_mosaic_09cm_area{key}{ending}.tif"] = tiff(palette[label])
        written[f"area{key}"] = image, label
    files["top"]["dsm/dsm_09cm_matching_area1.tif"] = tiff(np.ones((4, 4), np.float32))
    files["top"]["gts_for_participants/top_mosaic_09cm_area1.tif"] = b"the same label again"
    zipped(raw / "2_Ortho_RGB.zip", files["images"])
    zipped(raw / f"5_Labels_all{ending}.zip", files["labels"])
    zipped(raw / "ISPRS_semantic_labeling_Vaihingen.zip", files["top"])
    zipped(raw / "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip", files["truth"])
    return written


def tiff(pixels: npt.NDArray[Any], *, epsg: int = 0, left: float = 0, top: float = 0, step: float = 0) -> bytes:
    """A TIFF, with GeoTIFF tags of a north-up grid if a coordinate system is given."""
    tags: list[Any] = []
    if epsg:
        keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, epsg)
        tags = [
            (33550, "d", 3, (step, step, 0.0), True),
            (33922, "d", 6, (0.0, 0.0, 0.0, left, top, 0.0), True),
            (34735, "H", len(keys), keys, True),
        ]
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, metadata=None, extratags=tags, compression="lzw")
    return stream.getvalue()
