"""Class names and colours of the data sets, in index order."""

FBP_24: dict[str, tuple[int, int, int]] = {
    "industrial area": (200, 0, 0),
    "paddy field": (0, 200, 0),
    "irrigated field": (150, 250, 0),
    "dry cropland": (150, 200, 150),
    "garden land": (200, 0, 200),
    "arbor forest": (150, 0, 250),
    "shrub forest": (150, 150, 250),
    "park": (200, 150, 200),
    "natural meadow": (250, 200, 0),
    "artificial meadow": (200, 200, 0),
    "river": (0, 0, 200),
    "urban residential": (250, 0, 150),
    "lake": (0, 150, 200),
    "pond": (0, 200, 250),
    "fish pond": (150, 200, 250),
    "snow": (250, 250, 250),
    "bare land": (200, 200, 200),
    "rural residential": (200, 150, 150),
    "stadium": (250, 200, 150),
    "square": (150, 150, 0),
    "road": (250, 150, 150),
    "overpass": (250, 150, 0),
    "railway station": (250, 200, 250),
    "airport": (200, 150, 0),
}
"""Five-Billion-Pixels (Tong, Xia, Zhu, ISPRS J. 2023); class i is the value i + 1 of a label file, 0 is unlabelled."""

SCENES_7 = ("water", "paddy", "crop", "forest", "bare", "road", "building")
"""The embedded scenes: the classes that are confused most between sensors and seasons."""

LOVEDA_7: dict[str, tuple[int, int, int]] = {
    "background": (255, 255, 255),
    "building": (255, 0, 0),
    "road": (255, 255, 0),
    "water": (0, 0, 255),
    "barren": (159, 129, 183),
    "forest": (0, 255, 0),
    "agriculture": (255, 195, 128),
}
"""LoveDA (Wang et al., NeurIPS Datasets and Benchmarks 2021); class i is the value i + 1 of a mask, 0 is no data."""

ISPRS_6: dict[str, tuple[int, int, int]] = {
    "impervious surface": (255, 255, 255),
    "building": (0, 0, 255),
    "low vegetation": (0, 255, 255),
    "tree": (0, 255, 0),
    "car": (255, 255, 0),
    "clutter": (255, 0, 0),
}
"""ISPRS WG II/4 benchmark (Potsdam, Vaihingen); black is the eroded boundary and ignored."""

WHU_OHS_7: dict[str, tuple[int, int, int]] = {
    "farmland": (0, 255, 197),
    "forest": (38, 115, 0),
    "grassland": (85, 255, 0),
    "waterbody": (0, 92, 230),
    "built-up land": (115, 0, 0),
    "unused land": (255, 255, 0),
    "ocean": (0, 38, 115),
}
"""WHU-OHS (Li, Huang, Tu, JAG 2022), its 24 classes merged to the seven of SpectralMoE's task."""

FLAIR_12: dict[str, tuple[int, int, int]] = {
    "building": (219, 14, 154),
    "pervious surface": (147, 142, 123),
    "impervious surface": (248, 12, 0),
    "bare soil": (169, 113, 1),
    "water": (21, 83, 174),
    "coniferous": (25, 74, 38),
    "deciduous": (70, 228, 131),
    "brushwood": (243, 166, 13),
    "vineyard": (102, 0, 130),
    "herbaceous vegetation": (85, 255, 0),
    "agricultural land": (255, 243, 13),
    "plowed land": (228, 223, 124),
}
"""FLAIR (Garioud et al., 2022); class i is the value i + 1 of a mask, the values 13 to 19 are ignored."""

OEM_8: dict[str, tuple[int, int, int]] = {
    "bareland": (128, 0, 0),
    "rangeland": (0, 255, 36),
    "developed space": (148, 148, 148),
    "road": (255, 255, 255),
    "tree": (34, 97, 38),
    "water": (0, 69, 255),
    "agriculture land": (75, 181, 73),
    "building": (222, 31, 7),
}
"""OpenEarthMap (Xia et al., WACV 2023); class i is the value i + 1 of a label, 0 is unknown."""

VEGETATION = frozenset(
    (
        *("arbor forest", "shrub forest", "natural meadow", "artificial meadow"),
        *("forest", "woodland", "grassland", "tree", "low vegetation"),
        *("coniferous", "deciduous", "brushwood", "herbaceous vegetation"),
    )
)
"""Classes of all legends, real and embedded, whose pixels are mostly leaves in every season: no fields, no parks."""
