"""What there is to run on: Python and the packages, cores, memory, disks, GPUs. Imports torch only when asked."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
CGROUP = Path("/sys/fs/cgroup/memory.max")
_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader,nounits")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that the program needs: the version that is installed (None for none) and the bounds it must keep."""

    name: str
    installed: str | None
    bounds: str

    @property
    def fits(self) -> bool:
        """Whether it is there and within its bounds."""
        return self.installed is not None and SpecifierSet(self.bounds).contains(self.installed, prereleases=True)


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A folder and the bytes that are free where it is or would be; None if that cannot be told."""

    what: str
    path: str
    free_bytes: int | None
    writable: bool


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU, memory in MiB; `driver` is empty where torch alone tells of it."""

    name: str
    driver: str
    memory_mb: float
    free_mb: float


@dataclass(frozen=True, kw_only=True)
class Torch:
    """The torch that is installed.

    Args:
        version: its version; empty if it cannot be imported.
        cuda: the CUDA that it was built for; empty for a build without.
        devices: the GPUs that it can use.
        error: why it cannot be imported, or empty.
    """

    version: str
    cuda: str
    devices: tuple[Gpu, ...]
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """All of it, memory in bytes; `gpus` are those that the driver shows, or else torch."""

    python: Package
    system: str
    cores: int
    memory: int
    memory_free: int
    disks: tuple[Disk, ...]
    gpus: tuple[Gpu, ...]
    torch: Torch
    packages: tuple[Package, ...]


def look(folders: Sequence[tuple[str, Path]]) -> Machine:
    """Look at this machine, and import torch.

    Args:
        folders: whose free space matters: what they are for, and where; they need not exist.
    """
    memory = psutil.virtual_memory()
    limit = _limit()
    python, packages = requirements()
    torch = installed_torch()
    return Machine(
        python=python,
        system=f"{platform.system()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=min(memory.total, limit or memory.total),
        memory_free=min(memory.available, limit or memory.available),
        disks=tuple(_disk(what, path) for what, path in folders),
        gpus=tuple(driver_gpus()) or torch.devices,
        torch=torch,
        packages=packages,
    )


def requirements() -> tuple[Package, tuple[Package, ...]]:
    """Python, and every package that the project asks for, by pyproject.toml."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    python = Package(name="python", installed=platform.python_version(), bounds=project["requires-python"])
    asked = [Requirement(line) for line in project["dependencies"]]
    return python, tuple(_package(one.name, str(one.specifier)) for one in asked)


def _package(name: str, bounds: str) -> Package:
    try:
        installed: str | None = version(name)
    except PackageNotFoundError:
        installed = None
    return Package(name=name, installed=installed, bounds=bounds)


def _limit() -> int | None:
    """The bytes that a container may take, if that is limited."""
    try:
        return int(CGROUP.read_text())
    except (OSError, ValueError):
        return None


def _disk(what: str, path: Path) -> Disk:
    there = next((folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists()), None)
    try:
        free = shutil.disk_usage(there).free if there else None
    except OSError:
        free = None
    writable = there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return Disk(what=what, path=str(path), free_bytes=free, writable=writable)


def driver_gpus() -> list[Gpu]:
    """The GPUs that NVIDIA's driver shows; none where there is no driver or it does not answer."""
    try:
        ended = subprocess.run(_SMI, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in ended.stdout.splitlines()]
    return [
        Gpu(name=row[0], driver=row[1], memory_mb=_number(row[2]), free_mb=_number(row[3]))
        for row in rows
        if len(row) == 4
    ]


def _number(text: str) -> float:
    """Some devices tell `[N/A]`."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def installed_torch() -> Torch:
    """Import torch and ask it."""
    try:
        torch: Any = importlib.import_module("torch")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        devices = tuple(_device(torch.cuda, i) for i in range(count))
        return Torch(version=str(torch.__version__), cuda=str(torch.version.cuda or ""), devices=devices)
    except Exception as error:  # a broken installation raises what it likes, and is what a doctor is asked about
        return Torch(version="", cuda="", devices=(), error=f"{type(error).__name__}: {error}")


def _device(cuda: Any, index: int) -> Gpu:
    free, total = cuda.mem_get_info(index)
    return Gpu(name=str(cuda.get_device_name(index)), driver="", memory_mb=total / 2**20, free_mb=free / 2**20)
