"""Five-Billion-Pixels, cross-region: GF-2 scenes of most of China as source, those of twelve prefectures as targets.

Reads the authors' folders (see `benchmarks.datasets.fbp_scenes`), camera files included. The paper names the target
prefectures but no scenes, and the data set names no places; so a scene's region is the polygon of the user's boundary
file that the scene's centre, which its camera file tells, lies in. Two prefectures are called Yichun; which of them the
paper means is settled by its number of target scenes, 24.

Source: Tong, Xia, Zhu, ISPRS Journal 196:178-196, 2023 (layout); SpectralMoE, supplement (regions) and its public
schedule (126 and 24 scenes).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.datasets.fbp_scenes import EDGE, GAOFEN, LABELS, SCENE_SIZE, find_gf2, read_gf2, tiles_per_scene
from benchmarks.prepared.boundaries import FIELD, OFF_KM, PREFECTURES, Boundaries, read_boundaries
from benchmarks.prepared.manifest import DomainFacts
from benchmarks.prepared.raw import RawTree
from benchmarks.prepared.reader import open_prepared
from benchmarks.prepared.recipe import Choice, Choices, Expected, Recipe, Scene

TASK = "fbp_cr"
SOURCE, TARGET = "seen", "unseen"
TARGET_SCENES = 24
"""Target scenes that the released schedule implies."""

BORDER_KM = 10.0
"""A centre this near to another region is told in the notes."""

YICHUN = {"heilongjiang": "Yichun, Heilongjiang", "jiangxi": "Yichun, Jiangxi"}
"""The two prefectures of that name."""

_DECIDED = (*YICHUN, "both")
_NAMESAKE_DEGREES = 3.5
_SUFFIXES = frozenset({"shi", "city", "municipality", "prefecture", "level", "diqu", "prefecturelevel"})


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target region: its names as `plain` spells them, and the longitude and latitude of its seat in degrees."""

    names: tuple[str, ...]
    seat: tuple[float, float]


TARGETS: Mapping[str, Target] = {
    YICHUN["heilongjiang"]: Target(names=("yichun", "伊春"), seat=(128.84, 47.73)),
    YICHUN["jiangxi"]: Target(names=("yichun", "宜春"), seat=(114.42, 27.82)),
    "Baoding": Target(names=("baoding", "保定"), seat=(115.46, 38.87)),
    "Xiaogan": Target(names=("xiaogan", "孝感"), seat=(113.92, 30.92)),
    "Langfang": Target(names=("langfang", "廊坊"), seat=(116.68, 39.54)),
    "Yuxi": Target(names=("yuxi", "玉溪"), seat=(102.55, 24.35)),
    "Qiqihar": Target(names=("qiqihar", "qiqihaer", "齐齐哈尔"), seat=(123.92, 47.35)),
    "Hangzhou": Target(names=("hangzhou", "杭州"), seat=(120.16, 30.27)),
    "Zhuhai": Target(names=("zhuhai", "珠海"), seat=(113.58, 22.27)),
    "Urumqi": Target(names=("urumqi", "urumchi", "wulumuqi", "乌鲁木齐"), seat=(87.62, 43.82)),
    "Wuzhong": Target(names=("wuzhong", "吴忠"), seat=(106.20, 37.99)),
    "Xiamen": Target(names=("xiamen", "厦门"), seat=(118.09, 24.48)),
    "Shenyang": Target(names=("shenyang", "沈阳"), seat=(123.43, 41.80)),
}
"""The twelve target regions, Yichun as both that are meant by it."""


def plain(name: str) -> str:
    """A region's name without capitals, marks, apostrophes, and words such as Shi, City or Municipality."""
    marked = unicodedata.normalize("NFKD", name).casefold()
    letters = re.sub(r"['’ʼ`]", "", "".join(sign for sign in marked if not unicodedata.combining(sign)))  # noqa: RUF001
    words = re.findall(r"[^\W_]+", letters)
    kept = [word for word in words if word not in _SUFFIXES] or words
    return "".join(kept).removesuffix("市")


def target_of(name: str, lon: float, lat: float) -> str | None:
    """The target region that a polygon's name stands for near a place in degrees; None for any other, namesakes too."""
    spelt = plain(name)
    for region, target in TARGETS.items():
        near = max(abs(lon - target.seat[0]), abs(lat - target.seat[1])) <= _NAMESAKE_DEGREES
        if near and (spelt in target.names or spelt.removesuffix("shi") in target.names):
            return region
    return None


def find_scenes(tree: RawTree, choices: Choices) -> Sequence[Scene]:
    """The GF-2 scenes with their regions, those of target regions in the domain `unseen`.

    Raises:
        ValueError: files are missing or damaged, the boundaries lack a target region or a scene's place, or which
            Yichun is meant stays open.
    """
    scenes = find_gf2(tree, SOURCE)
    if bare := [scene for scene in scenes if not scene.others]:
        raise ValueError(
            f"{bare[0].image} has no camera file {bare[0].name}.rpb ({len(bare)} such images), which tells where it "
            "lies; download the folder Coordinate_files too"
        )
    boundaries = read_boundaries(tree.extras[PREFECTURES.option], choices[FIELD.name])
    _check_targets(boundaries)
    placed = [_placed(scene, boundaries) for scene in scenes]
    taken = _targets(decide([scene.region for scene in placed], choices["yichun"]))
    return [replace(scene, domain=TARGET if scene.region in taken else SOURCE) for scene in placed]


def _check_targets(boundaries: Boundaries) -> None:
    """Every target region's seat lies in a polygon of its name."""
    for region, target in TARGETS.items():
        found = [name for name, km in boundaries.around(*target.seat) if km == 0]
        if not any(target_of(name, *target.seat) == region for name in found):
            lon, lat = target.seat
            raise ValueError(
                f"--boundaries {boundaries.path} has no region {region} at {lon} E, {lat} N (there: "
                f"{', '.join(found) or 'nothing'}); give {PREFECTURES.what}; or choose another --choose name_field"
            )


def _placed(scene: Scene, boundaries: Boundaries) -> Scene:
    """The scene with its region, and notes where that is uncertain."""
    from benchmarks.prepared.rpc import read_rpb  # rasterio, which training does not need

    lon, lat = read_rpb(scene.others[0]).centre
    located = boundaries.at(lon, lat)
    if located is None:
        raise ValueError(
            f"--boundaries {boundaries.path} has no region within {OFF_KM:g} km of {scene.name} at {lon:.3f} E, "
            f"{lat:.3f} N; give {PREFECTURES.what}"
        )
    notes = [f"its centre lies {located.km:.1f} km outside {located.region}, the nearest region"] if located.km else []
    notes += [f"its centre lies {km:.1f} km from {name}" for name, km in located.near if km <= BORDER_KM]
    region = target_of(located.region, lon, lat) or located.region
    return replace(scene, region=region, centre=(lon, lat), notes=tuple(notes))


def decide(regions: Sequence[str], which: str) -> str:
    """Which Yichun is a target, given the scenes' regions and the choice `yichun`.

    Raises:
        ValueError: the number of target scenes does not decide it.
    """
    if which != "count":
        return which
    counts = count_targets(regions)
    there = [name for name in YICHUN if YICHUN[name] in regions]
    if not there:
        return "both"
    if len(there) < 2:  # what has no scene changes no count: both is the same as the other
        counts = {name: counts[name] for name in there}
    fitting = [name for name, count in counts.items() if count == TARGET_SCENES]
    if len(fitting) == 1:
        return fitting[0]
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    raise ValueError(
        f"which Yichun is meant cannot be told by the count of {TARGET_SCENES} target scenes ({told}); download all "
        f"150 scenes, or decide by --choose yichun={'|'.join(_DECIDED)}"
    )


def count_targets(regions: Sequence[str]) -> dict[str, int]:
    """How many scenes are targets by each answer to the question which Yichun is meant."""
    return {which: sum(region in _targets(which) for region in regions) for which in _DECIDED}


def _targets(which: str) -> set[str]:
    return {name for name in TARGETS if which == "both" or name not in YICHUN.values() or name == YICHUN[which]}


def remarks(tree: RawTree, choices: Choices, scenes: Sequence[Scene]) -> Sequence[str]:
    """Which Yichun was taken and why, which targets have no scene, and how many scenes lie near a border."""
    regions = [scene.region for scene in scenes]
    which = decide(regions, choices["yichun"])
    counts = ", ".join(f"{name} {count}" for name, count in count_targets(regions).items())
    if choices["yichun"] != "count":
        why = f"{which}, as chosen"
    elif set(regions).isdisjoint(YICHUN.values()):
        why = "no scene lies in either Yichun, so it does not matter"
    else:
        why = f"{which}, by the count of {TARGET_SCENES}"
    told = [f"Yichun of the paper: {why} (target scenes: {counts})"]
    if absent := sorted(_targets(which) - set(regions)):
        told.append(f"no scene lies in the target regions {'; '.join(absent)}")
    if near := sum(bool(scene.notes) for scene in scenes):
        told.append(f"the centres of {near} scenes lie outside every region or within {BORDER_KM:g} km of another")
    return told


def expected(choices: Choices) -> Sequence[Expected]:
    """What the released schedule implies."""
    per_scene = tiles_per_scene(choices)
    tiles = TARGET_SCENES * per_scene
    return (
        Expected(domains=(SOURCE,), scenes=(126, 126), tiles=(126 * per_scene,) * 2, says="150 scenes less targets"),
        Expected(domains=(SOURCE,), tiles=(26457, 26464), says="released schedule"),
        Expected(domains=(TARGET,), scenes=(TARGET_SCENES,) * 2, tiles=(tiles, tiles), says="150 less 126 scenes"),
    )


RECIPE = Recipe(
    task=TASK,
    version=1,
    domains={
        SOURCE: DomainFacts(side="source", sensor="GF-2 PMS", gsd_m=4, bands=GAOFEN),
        TARGET: DomainFacts(side="target", sensor="GF-2 PMS", gsd_m=4, bands=GAOFEN),
    },
    labels=LABELS,
    choices=(
        EDGE,
        Choice(
            name="yichun",
            values=("count", *_DECIDED),
            why="two prefectures have the name of this target; count: the answer that gives 24 target scenes",
        ),
        FIELD,
        SCENE_SIZE,
    ),
    find=find_scenes,
    read=read_gf2,
    expect=expected,
    needs=(PREFECTURES,),
    remark=remarks,
)

open_fbp_cr = partial(open_prepared, task=TASK)
"""The reader of the prepared task below a data root; see `benchmarks.prepared.reader.open_prepared`."""
