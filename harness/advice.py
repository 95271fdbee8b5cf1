"""What a doctor says: what is broken, what lacks, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.lookup import find_scale
from harness.machine import Disk, Machine, Package
from harness.schedule import Resources
from harness.supplies import Data, Outlook, Weights

GIB = 2**30
LEAST_DISK = GIB // 10
"""Bytes without which not even a few records find room."""
LITTLE_DISK, LITTLE_MEMORY = 5 * GIB, 3 * GIB
"""Bytes below which a run may stop half way: the records of a suite with their weights; a trial and its libraries."""
REINSTALL = "rm -f .venv/.installed && make .venv/.installed"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What is wrong, and what mends it (a command where there is one).

    Args:
        what: what lacks.
        remedy: what to do.
        broken: nothing can run before.
    """

    what: str
    remedy: str
    broken: bool = False


def advise(
    machine: Machine, weights: Sequence[Weights], data: Sequence[Data], suites: Sequence[Outlook], root: str
) -> list[Advice]:
    """All there is to say, the worst first; `root` is the data root as it stands in commands."""
    said = [
        *_on_packages((machine.python, *machine.packages), machine.torch.error),
        *_on_disks(machine.disks),
        *_on_gpus(machine),
        *_on_size(machine),
        *_on_weights(weights),
        *_on_data(data, root),
    ]
    if not any(suite.runnable for suite in suites) and not any(advice.broken for advice in said):
        said.append(Advice(what="no suite has a trial that can run", remedy="mend what is said above", broken=True))
    return sorted(said, key=lambda advice: not advice.broken)


def _on_packages(packages: Iterable[Package], torch_error: str) -> Iterator[Advice]:
    for package in packages:
        if package.installed is None:
            yield Advice(what=f"{package.name} is not installed", remedy=REINSTALL, broken=True)
        elif not package.fits:
            what = f"{package.name} {package.installed} is outside {package.bounds}"
            if package.name == "python":
                yield Advice(
                    what=what, remedy="take another Python: make PYTHON=python3.11 .venv/.installed", broken=True
                )
            else:
                yield Advice(what=f"{what}: nothing was tried with it", remedy=REINSTALL)
    if torch_error:
        yield Advice(what=f"torch cannot be imported ({torch_error})", remedy=REINSTALL, broken=True)


def _on_disks(disks: Iterable[Disk]) -> Iterator[Advice]:
    for disk in disks:
        if disk.what == "data":
            continue  # it is read alone
        if not disk.writable:
            what = f"the results folder {disk.path} cannot be written"
            yield Advice(what=what, remedy="change its permissions, or give --results DIR", broken=True)
        elif disk.free_bytes is not None and disk.free_bytes < LITTLE_DISK:
            what = f"{disk.free_bytes / GIB:.1f} GiB are free at the results folder {disk.path}"
            remedy = "free space, or give --results DIR; `plan --suite NAME --scale paper` tells what a suite needs"
            yield Advice(what=what, remedy=remedy, broken=disk.free_bytes < LEAST_DISK)


def _on_gpus(machine: Machine) -> Iterator[Advice]:
    torch = machine.torch
    if torch.devices or torch.error:
        return
    if machine.gpus:
        built = f"is built for CUDA {torch.cuda}" if torch.cuda else "is built without CUDA"
        gpu = machine.gpus[0]
        what = f"the driver ({gpu.driver}) shows {gpu.name}, but torch {torch.version} {built} and cannot use it"
        remedy = "update the driver, or install a torch built for it (pytorch.org/get-started)"
        yield Advice(what=what, remedy=remedy)
    else:
        remedy = (
            "the mini scale needs none; for the paper's take a machine with one, or try a trial on the CPU: "
            "python run.py --suite smoke --scale paper --data-root DATA --gpus-per-trial 0 --max-trials 1 (days)"
        )
        yield Advice(what="no GPU: trials at the paper's scale ask for one each", remedy=remedy)


def _on_size(machine: Machine) -> Iterator[Advice]:
    wanted = Resources().at(find_scale("paper")).cpus
    if machine.torch.devices and machine.cores < wanted:
        what = f"{machine.cores} cores: a trial at the paper's scale asks for {wanted}, and is refused"
        yield Advice(what=what, remedy=f"--cpus-per-trial {machine.cores}")
    if machine.memory_free < LITTLE_MEMORY:
        what = f"{machine.memory_free / GIB:.1f} GiB of memory are free: trials side by side may be killed"
        yield Advice(what=what, remedy="end other programs, or run with --workers 1")


def _on_weights(weights: Sequence[Weights]) -> Iterator[Advice]:
    for found in weights:
        if not found.here and found.build == "mini":
            what = f"harness/weights/{found.weights} is missing"
            yield Advice(what=what, remedy=f"git checkout harness/weights, or python run.py pretrain {found.backbone}")
    gone = [found for found in weights if not found.here and found.build != "mini"]
    if gone:
        said = "; ".join(dict.fromkeys(found.says for found in gone if found.says))
        what = f"not here: weights of {', '.join(found.name for found in gone)}"
        command = "python run.py weights fetch" + (f" --backbone {gone[0].name}" if len(gone) == 1 else "")
        yield Advice(what=what + (f" ({said})" if said else ""), remedy=command)


def _on_data(data: Sequence[Data], root: str) -> Iterator[Advice]:
    if all(found.state == "no data root" for found in data):
        remedy = "give --data-root DATA; python run.py data info TASK tells where to get a task's files"
        yield Advice(what="no data root: the paper's scale needs real data", remedy=remedy)
        return
    for found in data:
        if found.state == "defective":
            yield Advice(what=f"data of {found.task} are defective", remedy=found.says)
        for name in _leaking(found):
            remedy = f"see where: python run.py data audit {found.task} --data {root}"
            yield Advice(what=f"data of {found.task}: {name} overlaps with the source", remedy=remedy)
    here = [found for found in data if found.state == "here"]
    for what, concerned, command in (
        ("data are missing", [d for d in data if d.state == "missing"], f"prepare TASK --raw DOWNLOADS --out {root}"),
        ("no run has read all files yet", [d for d in here if not d.checked], f"verify TASK --data {root}"),
        ("no audit of these data", [d for d in here if d.outcomes is None], f"audit TASK --data {root}"),
    ):
        if concerned:
            names = [found.task for found in concerned]
            single = command.replace("TASK", names[0]) if len(names) == 1 else command
            yield Advice(what=f"{what}: {', '.join(names)}", remedy=f"python run.py data {single}")


def _leaking(found: Data) -> list[str]:
    return [name for name, outcome in (found.outcomes or {}).items() if outcome == "overlap found"]
