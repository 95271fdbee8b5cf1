"""The seven tasks of the comparison. Torch-free data; see `benchmarks.tasks` for what the words mean."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.legends import FBP_24, FLAIR_12, ISPRS_6, LOVEDA_7, OEM_8, WHU_OHS_7
from benchmarks.synthetic.mirrors import MIRRORS
from benchmarks.tasks import Augmentation, Band, DataSource, Released, Task


def _files(
    title: str,
    opener: str,
    legend: Mapping[str, tuple[int, int, int]],
    domains: Mapping[str, str],
    licence: str,
    obtain: str,
) -> DataSource:
    """A published data set: its domains and their sensors, the source first, and its legend in index order."""
    return DataSource(
        kind="files",
        title=title,
        opener=opener,
        classes=tuple(legend),
        palette=tuple(legend.values()),
        source=next(iter(domains)),
        targets=tuple(domains)[1:],
        sensors=domains,
        licence=licence,
        obtain=obtain,
    )


def _embedded(task: str) -> DataSource:
    """The synthetic mirror of a task."""
    mirror = MIRRORS[task]
    return DataSource(
        kind="embedded",
        title=mirror.title,
        opener=f"benchmarks.synthetic.scenes:open_{task}",
        classes=tuple(mirror.legend),
        palette=tuple(legend.colour for legend in mirror.legend.values()),
        source=mirror.source,
        targets=mirror.targets,
        sensors=mirror.domains,
    )


def _rgb(red_um: float, green_um: float, blue_um: float) -> tuple[Band, ...]:
    return (
        Band(name="R", centre_um=red_um),
        Band(name="G", centre_um=green_um),
        Band(name="B", centre_um=blue_um),
    )


_FBP_LICENCE = "an open licence that the page does not name; GF-2 images: research use, never redistribute"
_FBP_PAGE = "x-ytong.github.io/project/Five-Billion-Pixels.html (Google Drive or Baidu, by hand)"

_PHOTOS = Augmentation(resize=tuple(tenths / 10 for tenths in range(5, 21)), photometric=True)
"""Of the tasks in three bands; the edges are 256, 307, ..., 1024 pixels of 512."""

_FLIP_ONLY = Augmentation(resize=(), photometric=False)

_IMAGENET = Released(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), depth_rgb=(0, 1, 2))

_SENSORS = {"gf2": "GF-2", "planetscope": "PlanetScope", "gf1": "GF-1", "sentinel2": "Sentinel-2"}

FBP_CS = Task(
    name="fbp_cs",
    title="land cover across sensors: GF-2 to PlanetScope, GF-1 and Sentinel-2",
    version=1,
    bands=(
        Band(name="NIR", centre_um=0.83),
        Band(name="R", centre_um=0.66),
        Band(name="G", centre_um=0.555),
        Band(name="B", centre_um=0.485),
    ),
    embedded=_embedded("fbp_cs"),
    files=_files(
        title="Five-Billion-Pixels cross-sensor",
        opener="benchmarks.datasets.fbp:open_fbp",
        legend=FBP_24,
        domains=_SENSORS,
        licence=_FBP_LICENCE,
        obtain=_FBP_PAGE,
    ),
    released=Released(
        mean=(110.714, 85.357, 88.594, 82.444),
        std=(72.380, 65.591, 63.937, 63.005),
        depth_rgb=(1, 2, 3),
        float_jitter=(1, 2, 3),
    ),
)

_OHS_UM = (
    *(0.466, 0.480, 0.500, 0.520, 0.536, 0.550, 0.566, 0.580, 0.596, 0.610, 0.626, 0.640, 0.656, 0.670, 0.686, 0.700),
    *(0.716, 0.730, 0.746, 0.760, 0.776, 0.790, 0.806, 0.820, 0.836, 0.850, 0.866, 0.880, 0.896, 0.910, 0.926, 0.940),
)

WHU_OHS_CR = Task(
    name="whu_ohs_cr",
    title="hyperspectral land cover across regions",
    version=1,
    bands=tuple(Band(name=f"b{number}", centre_um=um) for number, um in enumerate(_OHS_UM, 1)),
    embedded=_embedded("whu_ohs_cr"),
    files=_files(
        title="WHU-OHS cross-region",
        opener="benchmarks.datasets.ohs:open_ohs",
        legend=WHU_OHS_7,
        domains={"seen": "OHS, source regions", "unseen": "OHS, target regions"},
        licence="not stated in the authors' repository; that of the Zenodo record holds",
        obtain="irsip.whu.edu.cn/resources/WHU_OHS_show.php, or Zenodo record 7258035: three archives",
    ),
    augmentation=_FLIP_ONLY,
    # the stored integers divided by 10,000 and nothing else
    released=Released(mean=(0.0,) * 32, std=(10_000.0,) * 32, depth_rgb=(1, 6, 14)),
)

FBP_CR = Task(
    name="fbp_cr",
    title="land cover across regions of GF-2",
    version=1,
    bands=FBP_CS.bands,
    embedded=_embedded("fbp_cr"),
    files=_files(
        title="Five-Billion-Pixels cross-region",
        opener="benchmarks.datasets.fbp_cr:open_fbp_cr",
        legend=FBP_24,
        domains={"seen": "GF-2", "unseen": "GF-2, twelve other prefectures"},
        licence=_FBP_LICENCE,
        obtain=f"{_FBP_PAGE}, camera files included; and boundaries of China's prefectures, such as geoBoundaries'",
    ),
    released=Released(
        mean=(112.067327, 83.535213, 88.392715, 82.128708),
        std=(73.937849, 65.736182, 64.700772, 63.703369),
        depth_rgb=(1, 2, 3),
        float_jitter=(1, 2, 3),
    ),
)

FLAIR_CR = Task(
    name="flair_cr",
    title="aerial land cover across regions",
    version=1,
    bands=(*_rgb(0.635, 0.55, 0.47), Band(name="NIR", centre_um=0.8)),
    embedded=_embedded("flair_cr"),
    files=_files(
        title="FLAIR cross-region",
        opener="benchmarks.datasets.flair:open_flair",
        legend=FLAIR_12,
        domains={"seen": "IGN aerial, 40 departments", "unseen": "IGN aerial, 10 departments"},
        licence="Etalab Open Licence 2.0",
        obtain="ignf.github.io/FLAIR (original archives) or the hub's data set IGNF/FLAIR-1-2; no registration",
    ),
    # the distortion of colours takes the first band for NIR, as in the other tasks in four bands; here it is red. The
    # line for depth was edited by hand per task: as for WHU-OHS, this is the one that the release has commented out
    released=Released(
        mean=(105.08, 110.87, 101.82, 106.38),
        std=(52.17, 45.38, 44.0, 39.69),
        depth_rgb=(0, 1, 2),
        float_jitter=(1, 2, 3),
    ),
)

LOVEDA_R2U = Task(
    name="loveda_r2u",
    title="land cover from rural to urban scenes",
    version=1,
    bands=_rgb(0.65, 0.55, 0.47),
    embedded=_embedded("loveda_r2u"),
    files=_files(
        title="LoveDA, rural to urban",
        opener="benchmarks.datasets.loveda:open_loveda",
        legend=LOVEDA_7,
        domains={"rural": "Google Earth", "urban": "Google Earth"},
        licence="CC BY-NC-SA 4.0 and the terms of Google Earth: academic use",
        obtain="Zenodo record 5706578: Train.zip, Val.zip",
    ),
    augmentation=_PHOTOS,
    released=_IMAGENET,
)

POTSDAM2VAIHINGEN = Task(
    name="potsdam2vaihingen",
    title="aerial land cover from R, G, B to NIR, R, G, by their places in the file",
    version=1,
    bands=_rgb(0.635, 0.55, 0.47),
    embedded=_embedded("potsdam2vaihingen"),
    files=_files(
        title="ISPRS Potsdam to Vaihingen",
        opener="benchmarks.datasets.isprs:open_isprs",
        legend=ISPRS_6,
        domains={"potsdam": "aerial, RGB", "vaihingen": "aerial, NIR-R-G"},
        licence="research use, cite, no redistribution",
        obtain="www.isprs.org/education/benchmarks/UrbanSemLab (link and password on the page)",
    ),
    augmentation=_PHOTOS,
    released=_IMAGENET,
)

OEM_CC = Task(
    name="oem_cc",
    title="land cover across continents, to Europe",
    version=1,
    bands=_rgb(0.65, 0.55, 0.47),
    embedded=_embedded("oem_cc"),
    files=_files(
        title="OpenEarthMap cross-continent",
        opener="benchmarks.datasets.oem:open_oem",
        legend=OEM_8,
        domains={"others": "aerial and satellite, five continents", "europe": "aerial and satellite, Europe"},
        licence="labels: as each image source, otherwise CC BY-NC-SA 4.0",
        obtain="Zenodo record 7223446; images of 22 regions from xBD (xview2.org, registration)",
    ),
    augmentation=_PHOTOS,
    released=Released(mean=(118.246, 120.441, 100.838), std=(49.52, 44.578, 48.335), depth_rgb=(0, 1, 2)),
)

TASKS: dict[str, Task] = {
    task.name: task for task in (FBP_CS, WHU_OHS_CR, FBP_CR, FLAIR_CR, LOVEDA_R2U, POTSDAM2VAIHINGEN, OEM_CC)
}
