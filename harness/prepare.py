"""From official files to a prepared task: scene by scene, each whole or not at all, in any number of processes."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from benchmarks.prepared.manifest import (
    FILE,
    PART,
    REGIONS,
    STATISTICS,
    Header,
    Manifest,
    Part,
    TileRow,
    load_part,
)
from benchmarks.prepared.raw import RawTree
from benchmarks.prepared.recipe import Choices, Recipe, Scene, learnt, made_of, region_table
from benchmarks.prepared.tiling import write_scene
from benchmarks.recipes import load_recipe
from harness.earlier import refuse_other_choices
from harness.pool import each
from harness.records import replace_file

_SCRATCH = ".tmp-"
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be prepared from what.

    Args:
        recipe: how.
        choices: every choice with its value.
        tile_px: side of a tile.
        folder: the task's folder below the data root.
        scenes: every scene.
        raw_fingerprint: hash of all their files.
        remarks: what the recipe says of the official files as a whole.
        warnings: what is wrong with the folder and will be mended.
    """

    recipe: Recipe
    choices: Choices
    tile_px: int
    folder: Path
    scenes: Sequence[Scene]
    raw_fingerprint: str
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def todo(self) -> list[Scene]:
        """Scenes that are not there yet, are no longer whole, or were made of other files."""
        return [scene for scene in self.scenes if self.part(scene) is None]

    def made_of(self, scene: Scene) -> str:
        """The hash of all that makes a scene's tiles."""
        return made_of(self.recipe, [scene], self.choices, self.tile_px)

    def part(self, scene: Scene) -> Part | None:
        """What a prepared scene holds; None if it is not there or not whole, or was made of something else."""
        part = load_part(self.folder / home(scene) / PART)
        if part is None or part.made_of != self.made_of(scene):
            return None
        return part if all(_size(self.folder / name) == size for name, size in part.sizes.items()) else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def home(scene: Scene) -> str:
    """A scene's folder, relative to the task's."""
    return f"{scene.domain}/{scene.name}"


def plan_preparation(
    task: str, raw: Path, out: Path, tile_px: int, choose: Sequence[str], extras: Mapping[str, Path]
) -> Plan:
    """Find the scenes among the official files; `extras` are those that the user brings beside them, by option.

    Raises:
        ValueError: a wrong choice or size, files missing, damaged or of no use, or `out` was prepared in another way.
    """
    if tile_px < 16:
        raise ValueError(f"--tile {tile_px}: give at least 16 pixels; published numbers are of 512")
    recipe = load_recipe(task)
    choices = recipe.choose(choose)
    recipe.check_extras(extras)
    tree = RawTree(raw, extras)
    scenes = recipe.find(tree, choices)
    twice = [name for name, count in Counter(home(scene) for scene in scenes).items() if count > 1]
    assert not twice, f"scenes named twice: {twice}"
    plan = Plan(
        recipe=recipe,
        choices=choices,
        tile_px=tile_px,
        folder=out / task,
        scenes=scenes,
        raw_fingerprint=made_of(recipe, scenes, choices, tile_px),
        remarks=tuple(recipe.remark(tree, choices, scenes)),
    )
    return replace(plan, warnings=refuse_other_choices(plan))


def check_room(plan: Plan, todo: Sequence[Scene]) -> tuple[int, int]:
    """Bytes that the scenes still to do need at most, and bytes that are free.

    The need is estimated from one scene per domain, which is read for that.

    Raises:
        ValueError: there is not enough room.
    """
    need = 0
    for domain, count in Counter(scene.domain for scene in todo).items():
        largest = max((scene for scene in todo if scene.domain == domain), key=lambda scene: scene.image.size)
        try:
            image = plan.recipe.read(largest, plan.choices).image
        except ValueError:
            continue  # its defect is reported in its turn, beside those of others
        height, width, bands = image.shape
        tiles = -(-height // plan.tile_px) * -(-width // plan.tile_px)
        need += count * tiles * (plan.tile_px**2 * (bands * image.itemsize + 1) + 4096)
    existing = next(folder for folder in (plan.folder, *plan.folder.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if need > free:
        raise ValueError(
            f"{plan.folder} needs about {need / 1e9:.1f} GB for {len(todo)} scenes, but {free / 1e9:.1f} GB are free; "
            "free space, or choose another --out"
        )
    return need, free


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold a task's folder against a second run, and clear away what killed runs left half-made.

    Raises:
        ValueError: another run holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise ValueError(f"another run is preparing {folder}; wait for it to end") from None
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}); choose another --out") from error
    try:
        for scratch in folder.glob(f"{_SCRATCH}*"):
            shutil.rmtree(scratch)
        yield
    finally:
        lock.release()


def prepare_scenes(plan: Plan, todo: Sequence[Scene], workers: int, on_scene: Callable[[], None]) -> None:
    """Prepare scenes; those that are whole stay, whatever happens to the others.

    Raises:
        ValueError: some could not be prepared; names the first few, and how many are whole.
    """
    jobs = [
        _Job(
            task=plan.recipe.task,
            scene=scene,
            choices=plan.choices,
            tile_px=plan.tile_px,
            folder=plan.folder,
        )
        for scene in todo
    ]
    defects: list[str] = []
    for _, outcome in each(_carry_out, jobs, workers):
        if isinstance(outcome, ValueError):
            defects.append(str(outcome))
        on_scene()
    if defects:
        told = "\n".join(sorted(defects)[:_SHOWN])
        more = f"\n... and {len(defects) - _SHOWN} more" if len(defects) > _SHOWN else ""
        raise ValueError(
            f"{len(defects)} of {len(plan.scenes)} scenes could not be prepared, so {plan.folder} has no manifest; "
            f"mend them and run the same command again: the others are kept\n{told}{more}"
        )


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One scene as it travels to a worker."""

    task: str
    scene: Scene
    choices: Choices
    tile_px: int
    folder: Path


def _carry_out(job: _Job) -> None:
    """Prepare one scene in a scratch folder and move it into place, in one step."""
    final = job.folder / home(job.scene)
    try:
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=job.folder))
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        write_scene(load_recipe(job.task), job.scene, job.choices, job.tile_px, new, home(job.scene))
        final.parent.mkdir(exist_ok=True)
        if final.exists():
            final.rename(old)  # made of other files, or no longer whole
        new.rename(final)
        shutil.rmtree(scratch)
    except OSError as error:
        raise ValueError(
            f"{final} cannot be written ({error.strerror}); free space or change its permissions: what is whole is kept"
        ) from error


def withdraw(plan: Plan, todo: Sequence[Scene]) -> None:
    """Take the manifest back before scenes change, and remove scenes that the official files no longer hold."""
    wanted = {plan.folder / home(scene) for scene in plan.scenes}
    orphans = [part.parent for part in plan.folder.glob(f"*/*/{PART}") if part.parent not in wanted]
    if orphans or todo:
        for name in (STATISTICS, REGIONS, FILE):
            (plan.folder / name).unlink(missing_ok=True)
    for orphan in orphans:
        shutil.rmtree(orphan)


def write_manifest(plan: Plan) -> Manifest:
    """Join the scenes' parts, source first, then by domain, scene and tile; written whole or not at all."""
    parts = {scene: plan.part(scene) for scene in plan.scenes}
    domains = plan.recipe.domains
    rows: list[TileRow] = []
    notes = list(plan.remarks)
    order = sorted(parts, key=lambda scene: (domains[scene.domain].side, scene.domain, scene.name))
    for scene in order:
        part = parts[scene]
        assert part is not None, "scenes that failed have been reported"
        rows += part.tiles
        notes += [f"{home(scene)}: {note}" for note in part.notes]
    header = Header(
        task=plan.recipe.task,
        recipe_version=plan.recipe.version,
        tile_px=plan.tile_px,
        dtype=plan.recipe.dtype,
        classes=plan.recipe.label_map.classes,
        tiles=len(rows),
        choices=dict(plan.choices),
        domains=dict(domains),
        raw_fingerprint=plan.raw_fingerprint,
        label_map_id=plan.recipe.labels,
        extras={need.option: learnt(order) for need in plan.recipe.needs},
        notes=tuple(notes),
    )
    manifest = Manifest(header=header, tiles=tuple(rows))
    data = manifest.dump()
    for name, content in ((REGIONS, region_table(plan.scenes).encode()), (FILE, data)):
        path = plan.folder / name
        if content and not _holds(path, content):
            replace_file(path, content)
    return manifest


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
