"""What an earlier `data prepare` left in a task's folder, and whether another may go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.prepared.manifest import FILE, Header, Manifest, NewerSchema, load_header, load_manifest

if TYPE_CHECKING:  # which imports this module
    from harness.prepare import Plan


def refuse_other_choices(plan: Plan) -> tuple[str, ...]:
    """Other choices, or files that tell other things, would quietly replace what took hours to make.

    Returns:
        Warnings: of a damaged manifest, which keeps nobody from writing it again.

    Raises:
        ValueError: the folder was prepared in another way, or by a newer version of this program.
    """
    path = plan.folder / FILE
    if not path.is_file():
        return ()
    try:
        manifest = load_manifest(path)
    except NewerSchema:
        raise
    except ValueError as damage:
        if header := load_header(path):
            _compare_choices(plan, header)
        complaint = str(damage).rpartition("; ")[0]  # what to do about it is being done
        return (f"{complaint}; it is written again from the prepared scenes",)
    _compare_choices(plan, manifest.header)
    _compare_regions(plan, manifest)
    return ()


def _compare_choices(plan: Plan, header: Header) -> None:
    made = {**header.choices, "--tile": str(header.tile_px)}
    asked = {**plan.choices, "--tile": str(plan.tile_px)}
    differ = [
        f"{name}={made.get(name)} there, {name}={value} now" for name, value in asked.items() if made.get(name) != value
    ]
    if differ:
        raise ValueError(
            f"{plan.folder} was prepared by other choices ({'; '.join(differ)}); give another --out, or remove it"
        )


def _compare_regions(plan: Plan, manifest: Manifest) -> None:
    """A file of the user's that tells another story of the scenes is another choice."""
    there = {row.scene: (row.domain, row.region) for row in manifest.tiles}
    for scene in plan.scenes if plan.recipe.needs else ():
        now = (scene.domain, scene.region)
        if there.get(scene.unit, now) != now:
            options = " and ".join(f"--{need.option}" for need in plan.recipe.needs)
            raise ValueError(
                f"{plan.folder} was prepared by another {options}: {scene.unit} is {' of '.join(there[scene.unit])} "
                f"there, {' of '.join(now)} now; give another --out, or remove it"
            )
