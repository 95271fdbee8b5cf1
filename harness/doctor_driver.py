"""The command `doctor`: look at everything, tell it, advise."""

from __future__ import annotations

from pathlib import Path

from harness import screen
from harness.advice import advise
from harness.doctor_screen import Findings, show
from harness.machine import look
from harness.supplies import look_for_data, look_for_weights, outlooks


def examine(data_root: Path | None, results: Path, *, as_json: bool) -> int:
    """Look at this machine, weights, data and suites, and show what was found.

    Args:
        data_root: folder of real data sets, or None.
        results: folder of all scales.
        as_json: print JSON instead of tables.

    Returns:
        The exit code: 1 if something is broken so that nothing can run, else 0.

    Raises:
        ValueError: the data root is no folder.
    """
    if data_root is not None and not data_root.is_dir():
        raise ValueError(f"--data-root {data_root} is no folder: give the one that `data prepare` was given as --out")
    folders = [("results", results), *([("data", data_root)] if data_root else [])]
    with screen.errors.status("importing torch"):
        machine = look(folders)
    with screen.errors.status("looking for weights"):
        weights = look_for_weights()
    with screen.errors.status("looking at data"):
        data = look_for_data(data_root, results)
    with screen.errors.status("asking the suites"):
        suites = outlooks(data_root, weights, len(machine.torch.devices))
    advice = advise(machine, weights, data, suites, str(data_root or "DATA"))
    show(Findings(machine=machine, weights=weights, data=data, suites=suites, advice=advice), as_json=as_json)
    return int(any(one.broken for one in advice))
