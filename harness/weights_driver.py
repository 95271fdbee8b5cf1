"""Weights listed, fetched and verified. Free of torch, but for loading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.backbone_names import find_backbone
from harness.lookup import find
from harness.screen import show_hint
from harness.timm_models import PREFIX as TIMM
from harness.weight_sources import Source
from harness.weight_store import FOLDER_VARIABLE, WeightFile, find_file, missing, place, weights_folder
from harness.weights_screen import Listed, show_state, show_weights
from harness.zoo import BACKBONE_NAMES, BACKBONES, DEPTH_ENCODERS, WEIGHTS, BackboneSpec, Build

_ENCODERS = (*BACKBONES.values(), *DEPTH_ENCODERS.values())


def chosen(names: Sequence[str]) -> list[BackboneSpec]:
    """Encoders by the names of either size, `timm:NAME`, `depth` for every depth encoder; all of ours if none is named.

    Raises:
        ValueError: an unknown name.
    """
    depth = {spec.builds["paper"].name: (spec,) for spec in DEPTH_ENCODERS.values()}
    known = {name: (spec,) for name, spec in BACKBONE_NAMES.items()} | depth | {"depth": tuple(DEPTH_ENCODERS.values())}
    others = {name: (find_backbone(name),) for name in names if name.startswith(TIMM)}
    wanted = [spec for name in names for spec in find("backbone", name, known | others, also=f"{TIMM}NAME")]
    every = [*_ENCODERS, *(spec for spec in wanted if spec not in _ENCODERS)]
    return [spec for spec in every if not names or spec in wanted]


def list_weights(names: Sequence[str], folder: Path | None) -> None:
    """Show the weights of encoders at both sizes. Raises `ValueError` for an unknown name."""
    builds = {build.name: build for spec in chosen(names) for build in spec.builds.values()}
    show_weights([row for build in builds.values() for row in _rows(build, folder)], weights_folder(folder))


def _rows(build: Build, folder: Path | None) -> Iterator[Listed]:
    """The shipped file, or each published one."""
    if not build.sources:
        path = WEIGHTS / build.weights
        here = path.is_file()
        yield Listed(
            name=build.name,
            state="present" if here else "missing",
            size=f"{path.stat().st_size / 1e6:.1f} MB" if here else "unknown",
            licence="as this program",
            origin=f"shipped: {build.weights}",
            digest=build.digest if here else "",
        )
        return
    used = find_file(build.sources, folder)
    for source in build.sources:
        file = find_file([source], folder)
        yield Listed(
            name=build.name if source is build.sources[0] else "  or",
            state="missing" if file is None else "present" if used and source is used.source else "present, not used",
            size=f"{source.gigabytes:.2f} GB" if source.gigabytes else "unknown",
            licence=f"{source.licence}{', gated' if source.gated else ''}",
            origin=source.name,
            digest=(file.recorded()[:16] or "noted at first use") if file else "",
        )


def fetch_weights(names: Sequence[str], folder: Path | None, *, force: bool) -> None:
    """Download what is not here; each digest is noted.

    Raises:
        ValueError: an unknown name, or files that could not be had; the others were.
    """
    refused = []
    for build in [spec.builds["paper"] for spec in chosen(names)]:
        file = None if force else find_file(build.sources, folder)
        try:
            state = "present" if file else "fetched"
            file = file or _download(build, folder, force=force)
            show_state(build.name, state, f"{file.path} (sha256 {file.digest()[:16]})", good=True)
        except ValueError as error:
            refused.append(str(error))
    if refused:
        raise ValueError("; ".join(refused))
    if folder and weights_folder(folder) != weights_folder():
        show_hint("trials look there after", f"export {FOLDER_VARIABLE}={weights_folder(folder)}")


def _download(build: Build, folder: Path | None, *, force: bool) -> WeightFile:
    """The first source of a build, from the hub, with the hub's own progress bar."""
    from huggingface_hub import hf_hub_download  # half a second
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RemoteEntryNotFoundError

    source = build.sources[0]
    by_hand = place(source, weights_folder(folder))
    # the hub's cache is where its users look; but a file that lies in the folder would come before it
    local = by_hand.parent if folder or by_hand.exists() else None
    try:
        path = hf_hub_download(source.repository, source.file, local_dir=local, force_download=force)
    except GatedRepoError as error:
        why = f"its licence must be accepted at {source.page}, then `hf auth login`"
        raise ValueError(_not_had(build, source, why, folder)) from error
    except LocalEntryNotFoundError as error:
        raise ValueError(_not_had(build, source, "the hub cannot be reached", folder)) from error
    except RemoteEntryNotFoundError as error:
        raise ValueError(_not_had(build, source, "the hub has no such file", folder)) from error
    except OSError as error:  # what else goes wrong on the way: the network, the disk
        raise ValueError(_not_had(build, source, str(error).partition("\n")[0], folder)) from error
    return WeightFile(source=source, path=Path(path), folder=weights_folder(folder))


def _not_had(build: Build, source: Source, why: str, folder: Path | None) -> str:
    return (
        f"weights of {build.name} were not fetched ({why}): put {source.file} of {source.page} at "
        f"{place(source, weights_folder(folder))}"
    )


def verify_weights(names: Sequence[str], folder: Path | None, *, load: bool) -> int:
    """Compare files with their digests, and with the models if asked to.

    Returns:
        The exit code: 1 if a file is not what it was, else 0; files that are missing are named and count for nothing.

    Raises:
        ValueError: an unknown name.
    """
    wrong = False
    for spec in chosen(names):
        build = spec.builds["paper"]
        file = find_file(build.sources, folder)
        if file is None:
            show_state(build.name, "missing", missing(build.name, build.sources, folder), good=True)
            continue
        first = not file.recorded()
        try:
            told = f"{file.path} (sha256 {file.check()}{', noted now' if first else ''})"
            show_state(build.name, "ok", _loaded(spec, folder) if load else told, good=True)
        except ValueError as error:
            wrong = True
            show_state(build.name, "wrong", str(error), good=False)
    return int(wrong)


def _loaded(spec: BackboneSpec, folder: Path | None) -> str:
    """What became of the tensors of a backbone's file."""
    from harness.backbones import load_report  # torch

    return str(load_report(spec, folder))
