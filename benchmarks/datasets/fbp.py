"""Five-Billion-Pixels, cross-sensor: GF-2 scenes as source; PlanetScope, GF-1 and Sentinel-2 cities as targets.

Reads the layout of the released SpectralMoE preparation below the data root:

    GID/source_dir/image/*.tif   GID/source_dir/label/*.png   the GF-2 tiles
    GID/target_dir/image/*.tif   GID/target_dir/label/*.png   the tiles of the megacity windows

Images are 8-bit TIFFs of four bands in the order NIR, R, G, B. Their authors tagged them as CMYK, so colour-converting
readers spoil them silently; here the bands are read raw and the tag is required. Labels are PNGs named like their
image, index-coded 0..24 (0 unlabelled, k the class k - 1 here). Tiles that `data prepare fbp_cs` made are read too.

Source: Tong, Xia, Zhu, ISPRS Journal 196:178-196, 2023 (classes, colours); SpectralMoE's public preparation (layout).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError
from zlib import error as ZlibError

import numpy as np
from PIL import Image

from benchmarks.datasets.tiff import RawTiff, read_tiff
from benchmarks.legends import FBP_24
from benchmarks.prepared.reader import is_prepared, open_prepared, refuse_own_folder
from benchmarks.tasks import IGNORE, AbsentData, ImageHWC, LabelHW, LonelyFiles, Reader, Sample, TileRef, short_hash

TASK = "fbp_cs"
SOURCE = "gf2"
"""The source domain: every tile of `source_dir`."""

TARGETS = ("planetscope", "gf1", "sentinel2")
"""The target domains: the tiles of `target_dir`, told apart by their names."""


CLASSES = tuple(FBP_24)
"""The 24 class names; class i is the value i + 1 of a label file."""

PALETTE = tuple(FBP_24.values())
"""The authors' colour (red, green, blue) of each class."""

_FOLDER = "GID"
_IMAGE_SUFFIXES = (".tif", ".tiff")
_LABEL_SUFFIXES = (".png",)
_NAME = re.compile(r"(?:crop_)?(?P<scene>.+?)(?:_r\d+_c\d+)?")
_SENSORS = {
    "planetscope": re.compile(r"\d{8}_"),
    "gf1": re.compile(r"GF1_"),
    "sentinel2": re.compile(r"T\d{2}[A-Z]{3}_"),
}
_PATTERNS = "20190713_... PlanetScope, GF1_... GF-1, T50TMK_... Sentinel-2, each after an optional crop_"
_ORIGINAL = "use the authors' 8-bit NIR,R,G,B files, cut without any colour conversion"
# Clouds and snow saturate blue over a whole tile, but then red and green are bright too.
_BRIGHT = 200
# What PIL raises on a damaged PNG.
_PNG_DAMAGE = (OSError, SyntaxError, ValueError, StructError, ZlibError, Image.DecompressionBombError)


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """The two files of a tile."""

    image: Path
    label: Path


class FbpReader:
    """The tiles of one folder of Five-Billion-Pixels; made by `open_fbp`. A `benchmarks.tasks.Reader`."""

    def __init__(self, pairs: Mapping[TileRef, _Pair], fingerprint: str) -> None:
        """Take the files of each tile, in the order `tiles` keeps, and the hash over them."""
        self._pairs = dict(pairs)
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        """The hash of the sorted relative paths and sizes of all files (sha256, 16 hexadecimal digits)."""
        return self._fingerprint

    def tiles(self, domain: str) -> list[TileRef]:
        """All tiles of a domain, by name. Raises `ValueError` for a domain without tiles."""
        found = [tile for tile in self._pairs if tile.domain == domain]
        if not found:
            count = Counter(tile.domain for tile in self._pairs)
            have = ", ".join(f"{name} {count[name]}" for name in (SOURCE, *TARGETS) if count[name])
            raise ValueError(f"no tile of domain {domain!r} in {_FOLDER} (tiles found: {have}); add its files")
        return found

    def read(self, tile: TileRef) -> Sample:
        """The pixels of one tile, uint8: image [H, W, 4] in the order NIR, R, G, B; label [H, W], 0..23 or `IGNORE`.

        Raises:
            ValueError: a defect of one of its files. Names the file, what was found, what is expected and the remedy.
        """
        if tile not in self._pairs:
            raise ValueError(f"no tile {tile.name!r} of domain {tile.domain!r} in {_FOLDER}; take tiles from `tiles`")
        pair = self._pairs[tile]
        image, label = check_image(pair.image, read_tiff(pair.image)), _read_label(pair.label)
        if image.shape[:2] != label.shape:
            raise ValueError(
                f"{pair.label} has {_size(label)} pixels, but its image {_size(image)} (width x height); "
                "cut both again with the same box"
            )
        return Sample(image=image, label=label)

    def check(self, tiles: Sequence[TileRef], on_tile: Callable[[], None]) -> None:
        """Read each tile once and raise the first defect (`ValueError`); `on_tile` is called after each sound tile."""
        for tile in tiles:
            self.read(tile)
            on_tile()


def open_fbp(root: Path) -> Reader:
    """Open the tiles below a data root, without reading any of them: `fbp_cs` as `data prepare` makes it, or `GID`.

    Args:
        root: the folder that holds one of the two.

    Raises:
        ValueError: a folder is missing or empty, an image or label lacks its partner, a target's sensor cannot be told,
            or a scene lies in source and target; both kinds are there. Names what was found and the remedy. It is
            `LonelyFiles` where only some partners are missing.
    """
    if is_prepared(root, TASK):
        if (root / _FOLDER).is_dir():
            raise ValueError(f"{root} holds both {TASK} and {_FOLDER}, and they may differ; move one of them away")
        return open_prepared(root, TASK)
    refuse_own_folder(root, TASK)
    base = _data_folder(root)
    pairs: dict[TileRef, _Pair] = {}
    lonely: list[tuple[Path, str]] = []
    for side in ("source_dir", "target_dir"):
        images = _files(base / side / "image", _IMAGE_SUFFIXES)
        labels = _files(base / side / "label", _LABEL_SUFFIXES)
        lonely += _lonely(images, labels)
        for stem in sorted(images.keys() & labels.keys()):
            tile = TileRef(
                domain=SOURCE if side == "source_dir" else _sensor(images[stem]), scene=_scene(stem), name=stem
            )
            pairs[tile] = _Pair(image=images[stem], label=labels[stem])
    _check_disjoint(pairs)
    reader = FbpReader(pairs, _fingerprint(root, pairs))
    if lonely:
        refusal = _refusal(lonely, reader)
        raise refusal if pairs else ValueError(str(refusal))
    return reader


def _data_folder(root: Path) -> Path:
    """The `GID` folder with its two sides."""
    base = root / _FOLDER
    for folder in (root, base, base / "source_dir", base / "target_dir"):
        if not folder.is_dir():
            parent = folder.parent
            found = _some(sorted(path.name for path in parent.iterdir())) if parent.is_dir() else "nothing"
            raise (AbsentData if folder == base else ValueError)(
                f"no folder {folder} (in {parent}: {found}); --data-root must be the folder that holds "
                f"{_FOLDER}/source_dir and {_FOLDER}/target_dir, each with image and label, or {TASK} as "
                f"`python run.py data prepare {TASK} --raw DIR --out {root}` makes it"
            )
    return base


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder with one of the suffixes, by stem; hidden and other files are passed over."""
    kind = " or ".join(suffixes)
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; it must hold the {kind} files of the tiles")
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    wanted = [path for path in paths if path.suffix.lower() in suffixes]
    if not wanted:
        found = ", ".join(f"{n} {suffix or 'without suffix'}" for suffix, n in Counter(p.suffix for p in paths).items())
        raise ValueError(f"{folder} holds no {kind} file (found: {found or 'nothing'}); put the tiles there")
    if absent := sorted(path.name for path in wanted if not path.is_file()):
        raise ValueError(f"{folder}: not files, or links to nothing: {_some(absent)}; restore or remove them")
    by_stem = {path.stem: path for path in wanted}
    if len(by_stem) < len(wanted):
        twice = sorted(stem for stem, n in Counter(path.stem for path in wanted).items() if n > 1)
        raise ValueError(f"{folder} holds the same tile with two suffixes: {_some(twice)}; keep one of each")
    return by_stem


def _lonely(images: Mapping[str, Path], labels: Mapping[str, Path]) -> list[tuple[Path, str]]:
    """Images without their label, then labels without their image, each with what it lacks."""
    return [
        *((images[stem], "a label") for stem in sorted(images.keys() - labels.keys())),
        *((labels[stem], "an image") for stem in sorted(labels.keys() - images.keys())),
    ]


def _refusal(lonely: Sequence[tuple[Path, str]], rest: Reader) -> LonelyFiles:
    remedy = "add or remove them (a label has the name of its image, ending .png and without _24label)"
    first, lacks = lonely[0]
    alike = [path.stem for path, lack in lonely if (path.parent, lack) == (first.parent, lacks)]
    message = f"{first.parent}: {first.parent.name}s without {lacks}: {_some(alike)}; {remedy}"
    return LonelyFiles(message, [f"{path} lacks {lack}; {remedy}" for path, lack in lonely], rest)


def _some(names: Sequence[str]) -> str:
    """Up to three names, and how many there are."""
    return ", ".join(names[:3]) + (f", ... ({len(names)} in all)" if len(names) > 3 else "") if names else "nothing"


def _scene(stem: str) -> str:
    """The scene a tile was cut from: its name without `crop_` and without `_rRRR_cCCC`."""
    match = _NAME.fullmatch(stem)
    return match["scene"] if match else stem


def target_domain(scene: str) -> str | None:
    """The target domain of a scene, by how its name begins; None if no sensor is known to name its scenes so."""
    return next((domain for domain, pattern in _SENSORS.items() if pattern.match(scene)), None)


def _sensor(image: Path) -> str:
    """The target domain of a file, by its name."""
    scene = _scene(image.stem)
    if domain := target_domain(scene):
        return domain
    if scene.startswith("GF2_"):
        raise ValueError(f"{image} is a GF-2 tile among the targets; GF-2 is the source sensor: move it to source_dir")
    raise ValueError(f"{image}: sensor unknown; the name of a target tile must begin like {_PATTERNS}; rename it")


def _check_disjoint(pairs: Mapping[TileRef, _Pair]) -> None:
    """No scene may be trained on and tested on."""
    source = {tile.scene for tile in pairs if tile.domain == SOURCE}
    if both := sorted({tile.scene for tile in pairs if tile.domain != SOURCE} & source):
        raise ValueError(f"scenes in source_dir and in target_dir of {_FOLDER}: {_some(both)}; remove them from one")


def _fingerprint(root: Path, pairs: Mapping[TileRef, _Pair]) -> str:
    """A hash of relative paths and sizes: changes with a file's name or size, not when the folder moves."""
    paths = [path for pair in pairs.values() for path in (pair.image, pair.label)]
    lines = sorted(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\n" for path in paths)
    return short_hash("".join(lines))


def check_image(path: object, raw: RawTiff) -> ImageHWC:
    """The four bands [H, W, 4] of an 8-bit file as read raw, after every check of its tags.

    Args:
        path: the file, for messages.
        raw: what it holds.

    Raises:
        ValueError: other bands or types, or signs of a colour conversion. Names the remedy.
    """
    image, bands = raw.pixels, raw.pixels.shape[2]
    if bands != 4:
        raise ValueError(f"{path} has {bands} band(s), expected 4 (NIR, R, G, B); {_ORIGINAL}")
    if image.dtype != np.uint8:
        raise ValueError(f"{path} has pixels of type {image.dtype}, expected uint8; {_ORIGINAL}, not the 16-bit ones")
    if raw.photometric == "rgb":
        raise ValueError(
            f"{path} is tagged RGB, expected CMYK ('separated'): probably re-saved by a colour-converting tool, its "
            f"NIR lost or inverted; {_ORIGINAL}, or set tag 262 to 5 if its bands are surely untouched"
        )
    if raw.photometric != "separated":
        raise ValueError(
            f"{path} is tagged {raw.photometric!r}, expected CMYK ('separated'); "
            f"{_ORIGINAL}, or set tag 262 to 5 if its bands are surely NIR, R, G, B"
        )
    if image[..., 3].min() == 255 and image[..., 1:3].min() < _BRIGHT:
        raise ValueError(
            f"{path}: band 4 is 255 everywhere, expected blue: a sign of a conversion from CMYK to RGB with alpha; "
            f"{_ORIGINAL}"
        )
    return image


def _read_label(path: Path) -> LabelHW:
    """The classes [H, W] of a label file: 0 becomes `IGNORE`, k becomes k - 1."""
    try:
        with Image.open(path, formats=["PNG"]) as file:
            mode, raw = file.mode, np.asarray(file)
    except _PNG_DAMAGE as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise ValueError(f"{path} is not a PNG, or a damaged one ({text}); copy or unpack the file again") from error
    if mode not in {"P", "L"}:
        raise ValueError(
            f"{path} is a PNG of mode {mode}, expected an index in 8 bits (mode P or L); use the index-coded labels, "
            "or turn each colour into its class number 1..24 by PALETTE, 0 for unlabelled"
        )
    if (highest := int(raw.max())) > len(CLASSES):
        raise ValueError(
            f"{path} holds the value {highest}, expected 0 (unlabelled) to {len(CLASSES)}; use the index-coded labels"
        )
    label: LabelHW = np.where(raw == 0, np.uint8(IGNORE), raw - np.uint8(1))
    return label


def _size(label: LabelHW | ImageHWC) -> str:
    return f"{label.shape[1]} x {label.shape[0]}"
