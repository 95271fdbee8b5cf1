"""Writes a small folder in the layout of Five-Billion-Pixels: real names, real TIFF tags, learnable content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from benchmarks.datasets.fbp import PALETTE

SCENES = {
    "gf2": (
        "GF2_PMS1__L1A0001064454-MSS1",
        "GF2_PMS1__L1A0001118839-MSS1",
        "GF2_PMS2__L1A0000607677-MSS2",
        "GF2_PMS1__L1A0001344822-MSS1",
        "GF2_PMS2__L1A0000718813-MSS2",
        "GF2_PMS1__L1A0001366278-MSS1",
    ),
    "planetscope": (
        "20190713_032217_1003_3B_AnalyticMS_SR",
        "20190821_024714_84_1069_3B_AnalyticMS_SR",
        "20190815_031457_0e20_3B_AnalyticMS_SR",
    ),
    "gf1": (
        "GF1_PMS1_E114.0_N30.5_20160328_L1A0001492006-MSS1",
        "GF1_PMS2_E113.7_N30.2_20160614_L1A0001642547-MSS2",
    ),
    "sentinel2": ("T50TMK_20210929T030539", "T49QGF_20210218T025749"),
}
"""Names of scenes by domain, as their authors give them."""

COLOURS = {
    0: (120, 120, 120, 120),
    3: (210, 80, 110, 70),
    6: (180, 40, 70, 60),
    12: (100, 170, 160, 160),
    13: (20, 40, 90, 120),
    17: (130, 190, 150, 110),
    21: (80, 110, 110, 115),
}
"""Mean NIR, R, G, B of each label value that occurs; 0 is unlabelled."""

_GAIN = {"gf2": 1.0, "planetscope": 0.9, "gf1": 1.1, "sentinel2": 0.8}


@dataclass(frozen=True, kw_only=True)
class Written:
    """A tile as it was written.

    Args:
        image_path: the TIFF.
        label_path: the PNG.
        image: [px, px, 4] uint8 in the order NIR, R, G, B.
        raw: [px, px] uint8, the values of the label file, 0..24.
    """

    image_path: Path
    label_path: Path
    image: npt.NDArray[np.uint8]
    raw: npt.NDArray[np.uint8]


def write_fbp(
    root: Path,
    *,
    scenes: int = 3,
    tiles_per_scene: int = 2,
    px: int = 64,
    seed: int = 0,
    compression: str | None = None,
) -> dict[str, Written]:
    """Write `GID` below a root and return its tiles by name.

    Args:
        root: the data root; made if absent.
        scenes: scenes per domain, as far as `SCENES` goes.
        tiles_per_scene: tiles in one row of a scene; the last one's right eighth is zero fill, as in the real cut.
        px: side of a tile in pixels.
        seed: of the content.
        compression: of the TIFFs, as tifffile names it.
    """
    rng = np.random.default_rng(seed)
    written: dict[str, Written] = {}
    for domain, names in SCENES.items():
        side = root / "GID" / ("source_dir" if domain == "gf2" else "target_dir")
        prefix = "" if domain == "gf2" else "crop_"
        for folder in ("image", "label"):
            (side / folder).mkdir(parents=True, exist_ok=True)
        for scene in names[:scenes]:
            image, raw = _scene(rng, px, tiles_per_scene, _GAIN[domain])
            for column in range(tiles_per_scene):
                box = np.s_[:, column * px : (column + 1) * px]
                name = f"{prefix}{scene}_r001_c{column + 1:03d}"
                tile = Written(
                    image_path=side / "image" / f"{name}.tif",
                    label_path=side / "label" / f"{name}.png",
                    image=np.ascontiguousarray(image[box]),
                    raw=np.ascontiguousarray(raw[box]),
                )
                write_image(tile.image_path, tile.image, compression=compression)
                write_label(tile.label_path, tile.raw, mode="PL"[column % 2])
                written[name] = tile
    return written


def write_image(path: Path, image: npt.NDArray[np.generic], **options: object) -> None:
    """Write bands [H, W, 4] as the data set does (tagged CMYK, no alpha); options of `tifffile.imwrite` override."""
    tifffile.imwrite(path, image, **{"photometric": "separated", "metadata": None, **options})  # type: ignore[arg-type]


def write_label(path: Path, raw: npt.NDArray[np.uint8], *, mode: str) -> None:
    """Write label values [H, W] as a PNG, of mode P (with the authors' colours) or L."""
    label = Image.frombytes(mode, (raw.shape[1], raw.shape[0]), raw.tobytes())
    if mode == "P":
        label.putpalette([channel for colour in ((0, 0, 0), *PALETTE) for channel in colour])
    label.save(path)


def _scene(
    rng: np.random.Generator, px: int, tiles: int, gain: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Blobs around random points, each of one class: image [px, px * tiles, 4] and label values."""
    height, width = px, px * tiles
    points = rng.uniform((0, 0), (height, width), size=(10 * tiles, 2))
    values = rng.permutation(np.resize(list(COLOURS), len(points)))
    rows, columns = np.mgrid[:height, :width]
    distance = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2
    raw = values[distance.argmin(-1)].astype(np.uint8)
    table = np.zeros((max(COLOURS) + 1, 4))
    for value, colour in COLOURS.items():
        table[value] = colour
    image = np.clip(table[raw] * gain + rng.normal(0, 12, (height, width, 4)), 1, 254).astype(np.uint8)
    image[:, width - px // 8 :] = 0
    raw[:, width - px // 8 :] = 0
    return image, raw


PLACES = {
    "GF2_PMS1__L1A0001064454-MSS1": (103.83, 36.06),  # Lanzhou
    "GF2_PMS1__L1A0001118839-MSS1": (106.55, 29.56),  # Chongqing
    "GF2_PMS2__L1A0000607677-MSS2": (120.62, 31.30),  # Wuzhong, but the one in Jiangsu
    "GF2_PMS1__L1A0001344822-MSS1": (115.9, 38.8),  # Baoding, 5 km from Cangzhou
    "GF2_PMS2__L1A0000718813-MSS2": (87.5, 43.9),  # Urumqi
    "GF2_PMS1__L1A0001366278-MSS1": (118.09, 23.9),  # at sea, south of Xiamen
    "GF2_PMS1__L1A0001366284-MSS1": (128.9, 47.6),  # Yichun in the north
    "GF2_PMS2__L1A0001378491-MSS2": (106.1, 37.9),  # Wuzhong in Ningxia
}
"""Where a few scenes of cross-region are made to lie."""

SEATS = {
    "Yichun City": (128.84, 47.73),
    "YICHUN SHI": (114.42, 27.82),
    "Baoding": (115.46, 38.87),
    "Xiaogan": (113.92, 30.92),
    "Lángfāng Municipality": (116.68, 39.54),
    "Yuxi": (102.55, 24.35),
    "Qiqiha'er": (123.92, 47.35),
    "杭州市": (120.16, 30.27),
    "Zhuhai City": (113.58, 22.27),
    "Ürümqi": (87.62, 43.82),
    "Wuzhong": (106.2, 37.99),
    "Xiamen": (118.09, 24.48),
    "Shenyang Prefecture-level City": (123.43, 41.8),
    "Lanzhou": (103.83, 36.06),
    "Chongqing": (106.55, 29.56),
    "wuzhong": (120.62, 31.3),
    "Cangzhou": (116.455, 38.3),
}
"""Regions of a toy boundary file, spelt in the ways of several editions; each is a box of one degree around a point."""

SCALE = (0.2, 0.15)
"""Half a toy scene in degrees of longitude and latitude."""


def write_boundaries(path: Path, *, field: str = "shapeName", leave: tuple[str, ...] = (), **options: object) -> Path:
    """Write the regions of `SEATS` without some of them; options of `geopandas.GeoDataFrame.to_file`."""
    import geopandas as gpd
    from shapely import box

    names = [name for name in SEATS if name not in leave]
    boxes = [box(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for x, y in (SEATS[name] for name in names)]
    gpd.GeoDataFrame({field: names}, geometry=boxes, crs=4326).to_file(path, **options)
    return path


def write_fbp_cr(raw: Path, places: dict[str, tuple[float, float]] = PLACES, *, px: int = 64) -> dict[str, Written]:
    """The authors' folders with camera files, one annotated area of `px` pixels per scene, cut out of the whole."""
    rng = np.random.default_rng(0)
    for folder in ("Image__8bit_NirRGB", "Annotation__index", "Coordinate_files"):
        (raw / folder).mkdir(parents=True)
    written = {}
    for stem, (lon, lat) in places.items():
        image, label = _scene(rng, px, 1, 1.0)
        scene = Written(
            image_path=raw / "Image__8bit_NirRGB" / f"{stem}.tif",
            label_path=raw / "Annotation__index" / f"{stem}_24label.png",
            image=image,
            raw=label,
        )
        margins = ((54, 54), (60, 40))
        write_image(scene.image_path, np.pad(image, (*margins, (0, 0))))
        write_label(scene.label_path, np.pad(label, margins), mode="L")
        write_rpb(raw / "Coordinate_files" / f"{stem}.rpb", lon, lat, height=px + 108, width=px + 100)
        written[stem] = scene
    return written


def sites(north: int, south: int, others: int) -> dict[str, tuple[float, float]]:
    """Places of so many scenes in the two Yichuns and in other targets, and of two that are none."""
    rest = [SEATS[name] for name in SEATS if "ichun" not in name.casefold() and SEATS[name] != SEATS["wuzhong"]][:11]
    targets = [rest[i % len(rest)] for i in range(others)]
    places = [SEATS["Yichun City"]] * north + [SEATS["YICHUN SHI"]] * south + targets
    return {
        f"GF2_PMS1__L1A{i:010d}-MSS1": place
        for i, place in enumerate([*places, SEATS["Lanzhou"], SEATS["Chongqing"]], start=1)
    }


def write_rpb(path: Path, lon: float, lat: float, *, height: int, width: int) -> None:
    """A camera file of affine coefficients, turned and leaning over: see `ground`, which undoes them."""
    lines, samples, one = [0.0] * 20, [0.0] * 20, [1.0] + [0.0] * 19
    lines[1:4] = 0.1, -1.0, 0.3  # by longitude, latitude and height above the mean one
    samples[1:4] = 1.0, 0.2, -0.4
    values: dict[str, object] = {"errBias": 1.0, "errRand": 0.0}
    values |= {"lineOffset": height / 2 - 0.5, "sampOffset": width / 2 - 0.5}  # of the middle of a pixel
    values |= {"latOffset": lat, "longOffset": lon, "heightOffset": 700.0}
    values |= {"lineScale": height / 2, "sampScale": width / 2, "latScale": SCALE[1], "longScale": SCALE[0]}
    values |= {"heightScale": 500.0}
    rows = [f"\t{name} = {value};" for name, value in values.items()]
    for name, numbers in (("lineNum", lines), ("lineDen", one), ("sampNum", samples), ("sampDen", one)):
        rows.append(f"\t{name}Coef = (\n" + ",\n".join(f"\t\t\t{number:+.15E}" for number in numbers) + ");")
    head = ['satId = "GF2";', 'bandId = "MSS";', 'SpecId = "RPC00B";', "BEGIN_GROUP = IMAGE"]
    path.write_text("\n".join([*head, *rows, "END_GROUP = IMAGE", "END;", ""]))


def ground(
    lon: float, lat: float, row: float, col: float, *, height: int, width: int
) -> tuple[float, float]:  # fmt: skip
    """Longitude and latitude of a pixel's corner under `write_rpb` at the mean height, in closed form."""
    line, sample = (row - height / 2) / (height / 2), (col - width / 2) / (width / 2)
    x, y = np.linalg.solve([[0.1, -1.0], [1.0, 0.2]], [line, sample])
    return lon + SCALE[0] * float(x), lat + SCALE[1] * float(y)
