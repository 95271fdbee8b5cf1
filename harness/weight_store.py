"""Published weight files on this machine: where they lie, and whether they are still what they were. Free of torch.

A file is looked for in the weights folder, `FOLDER/OWNER/REPOSITORY/FILE`, then in the hub's own cache. At first use
its SHA-256 is noted in the weights folder, whichever of the two the file lies in, and checked ever after. The folder is
the user's, not of a results folder or a checkout: all of them agree on what a file is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.weight_sources import Source

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "DGSS_BENCH_WEIGHTS"


def weights_folder(given: Path | None = None) -> Path:
    """The folder given, else `$DGSS_BENCH_WEIGHTS`, else `dgss-bench` in the home of the hub's library (`$HF_HOME`)."""
    if given or os.environ.get(FOLDER_VARIABLE):
        return Path(given or os.environ[FOLDER_VARIABLE]).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "dgss-bench"


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A published file that is here.

    Args:
        source: what it is.
        path: where it lies.
        folder: the weights folder, where its digest is noted.
    """

    source: Source
    path: Path
    folder: Path

    @property
    def note(self) -> Path:
        """The JSON file with its digest."""
        return place(self.source, self.folder).with_name(f"{self.source.file}.sha256.json")

    def recorded(self) -> str:
        """The digest noted at first use; empty if there is none."""
        return str(self._noted().get("sha256", ""))

    def digest(self) -> str:
        """The SHA-256 as noted, if the file looks untouched since (place, size, time of change); else as `check`.

        Raises:
            ValueError: as `check`.
        """
        noted = self._noted()
        return str(noted["sha256"]) if noted and noted.get("stamp") == self._stamp() else self.check()

    def check(self) -> str:
        """The SHA-256 of the file as it is now, noted if it is the first.

        Raises:
            ValueError: the file is incomplete, not what its name says, or another than was noted.
        """
        try:
            _refuse_incomplete(self)
            with self.path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ValueError(f"weight file {self.path} cannot be read ({error.strerror}); {remedy(self)}") from error
        if not sha256.startswith(self.source.sha256_begins):
            raise ValueError(
                f"weight file {self.path} is not the published {self.source.file}: its SHA-256 is {sha256}, that one's "
                f"begins with {self.source.sha256_begins}; {remedy(self)}"
            )
        noted = self._noted()
        if noted and noted["sha256"] != sha256:
            raise ValueError(
                f"weight file {self.path} is another than at first use ({noted['recorded']}): its SHA-256 is {sha256}, "
                f"it was {noted['sha256']}; {remedy(self)}, or delete {self.note} if you mean it"
            )
        if noted.get("stamp") != self._stamp():
            self._write({"recorded": _now(), **noted, "sha256": sha256, "stamp": self._stamp()})
        return sha256

    def forget(self) -> None:
        """Drop the note of a file that turned out to be the wrong one, so that the right one may take its place."""
        self.note.unlink(missing_ok=True)

    def _stamp(self) -> list[Any]:
        stat = self.path.stat()
        return [str(self.path.resolve()), stat.st_size, stat.st_mtime_ns]

    def _noted(self) -> Mapping[str, Any]:
        try:
            noted = dict(json.loads(self.note.read_bytes()))
            return {"recorded": noted["recorded"], "sha256": noted["sha256"], "stamp": noted.get("stamp")}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.note} holds no digest ({error!r}): delete it, it is made anew") from error

    def _write(self, noted: Mapping[str, Any]) -> None:
        temporary = self.note.with_name(f".{self.note.name}.{os.getpid()}")
        try:
            self.note.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(dict(noted), indent=1))
            temporary.replace(self.note)
        except OSError as error:
            log.warning(
                f"the digest of {self.path} cannot be noted in {self.note} ({error.strerror}): nothing checks it"
            )


def find_file(sources: Sequence[Source], folder: Path | None = None) -> WeightFile | None:
    """The first of some files that is here: in the weights folder, else in the hub's cache."""
    found = weights_folder(folder)
    for source in sources:
        path = place(source, found)
        if path.is_file():
            return WeightFile(source=source, path=path, folder=found)
    for source in sources:
        from huggingface_hub import try_to_load_from_cache  # half a second, and mini trials need none of it

        cached = try_to_load_from_cache(source.repository, source.file)
        if isinstance(cached, str):
            return WeightFile(source=source, path=Path(cached), folder=found)
    return None


def place(source: Source, folder: Path) -> Path:
    """Where a file put by hand is looked for."""
    return folder / source.repository / source.file


def missing(name: str, sources: Sequence[Source], folder: Path | None = None) -> str:
    """What to do about weights that are not here, in one sentence.

    Args:
        name: of the backbone.
        sources: the files that hold its weights.
        folder: the weights folder, if not the user's own.
    """
    first = sources[0]
    return (
        f"weights of {name} are missing: run `python run.py weights fetch --backbone {name}`, or put {first.file} of "
        f"{first.page} at {place(first, weights_folder(folder))}"
    )


def remedy(file: WeightFile) -> str:
    """What to do about a file that is not right."""
    return f"put {file.source.file} of {file.source.page} there, or `python run.py weights fetch --force`"


def _refuse_incomplete(file: WeightFile) -> None:
    """A broken file must not be noted as the right one, and a plan reads no tensors."""
    with file.path.open("rb") as opened:
        head = opened.read(8)
        size = opened.seek(0, os.SEEK_END)
        opened.seek(8)
        if file.path.suffix == ".safetensors":
            length = int.from_bytes(head, "little")
            whole = 8 + length <= size and _safetensors_size(opened.read(length)) == size - 8 - length
        else:
            whole = zipfile.is_zipfile(file.path) if head.startswith(b"PK") else head.startswith(b"\x80")
    if not whole:
        raise ValueError(f"weight file {file.path} is incomplete or no weight file ({size:,} bytes): {remedy(file)}")


def _safetensors_size(header: bytes) -> int:
    """Bytes of tensors that the header of a safetensors file promises; -1 for no such header."""
    try:
        entries = json.loads(header)
        return max((entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        return -1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
