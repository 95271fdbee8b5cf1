"""Official files as a user has them: plain in folders, or still inside .zip and .tar archives, read in place."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypeVar
from zlib import error as ZlibError

K = TypeVar("K", bound=Hashable)
Key = TypeVar("Key", str, tuple[str, str], tuple[str, str, str])

_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, ZlibError)
_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/)")


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """One file, plain or inside an archive.

    Args:
        path: the plain file, or the archive.
        member: its name in the archive; empty for a plain file.
        where: its path below the raw folder; an archive counts as a folder with the archive's name.
        size: bytes, unpacked.
    """

    path: Path
    member: str
    where: str
    size: int

    @property
    def stem(self) -> str:
        """The file's own name without its last suffix."""
        return self.where.rpartition("/")[2].rpartition(".")[0]

    def __str__(self) -> str:
        """For messages: where a user finds it."""
        return f"{self.path} ({self.member})" if self.member else str(self.path)

    def open(self) -> BinaryIO:
        """The file's bytes as a seekable stream.

        Raises:
            ValueError: it cannot be opened, or its archive is damaged or encrypted. Names file and remedy.
        """
        try:
            if not self.member:
                return self.path.open("rb")
            if self.path.suffix.lower() == ".zip":
                return io.BytesIO(_zip(self.path).read(self.member))
            found = _tar(self.path).extractfile(self.member)
            assert found is not None, "only files are listed"
            data = found.read()
        except RuntimeError as error:  # what zipfile raises for a password
            raise ValueError(f"{self} is encrypted; unpack the archive with its password first") from error
        except _DAMAGE as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            if self.member and not isinstance(error, FileNotFoundError):
                what = "CRC" if "CRC" in text else text
                raise ValueError(f"{self.path} is damaged at {self.member} ({what}); download it again") from error
            raise ValueError(f"{self} cannot be read ({text}); copy or download the file again") from error
        if len(data) != self.size:
            raise ValueError(f"{self} is truncated: {len(data)} of {self.size} bytes; copy or download the file again")
        return io.BytesIO(data)


@lru_cache(maxsize=8)
def _zip(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@lru_cache(maxsize=8)
def _tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "r:")


class RawTree:
    """Every file below a folder and inside its archives, in the order of their paths."""

    def __init__(self, root: Path, extras: Mapping[str, Path] | None = None) -> None:
        """List the folder.

        Args:
            root: the folder.
            extras: files that the user brings beside it, by the option that names them.

        Raises:
            ValueError: no such folder, or an archive in it is damaged.
        """
        if not root.is_dir():
            raise ValueError(f"--raw {root} is no folder; give the one with the official archives or unpacked files")
        self.root = root
        self.extras = dict(extras or {})
        self.unread: list[str] = []
        self.files = sorted(self._list(), key=lambda file: file.where)

    def _list(self) -> Iterator[RawFile]:
        for path in self.root.rglob("*"):
            where = path.relative_to(self.root).as_posix()
            if _HIDDEN.search(where) or not path.is_file():
                continue
            if path.suffix.lower() in (".zip", ".tar"):
                yield from _members(path, where)
            elif path.name.lower().endswith(_PACKED):
                self.unread.append(where)
            else:
                yield RawFile(path=path, member="", where=where, size=path.stat().st_size)

    def match(self, pattern: str) -> Iterator[tuple[re.Match[str], RawFile]]:
        """Files whose path ends like the pattern, which begins after a `/` or at the path's beginning; case counts."""
        wanted = re.compile(rf"(?:^|.*/)(?:{pattern})")
        for file in self.files:
            if found := wanted.fullmatch(file.where):
                yield found, file

    def found(self) -> str:
        """What lies here, for a message: the first few paths and what was not read."""
        some = [file.where for file in self.files[:3]]
        packed = f"; not opened: {', '.join(self.unread[:3])} (unpack them)" if self.unread else ""
        return f"{len(self.files)} files, such as {', '.join(some)}{packed}" if some else f"no files{packed}"

    def require(self, images: Mapping[K, RawFile], labels: Mapping[K, RawFile], what: str) -> None:
        """Raise `ValueError` if no images or no labels of something were found; `what` names them and their source."""
        if not images or not labels:
            lacks = "images" if not images else "labels"
            raise ValueError(f"no {lacks} in {self.root} for {what}; download them too (it holds {self.found()})")


def _members(path: Path, where: str) -> Iterator[RawFile]:
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                listed = [(item.filename, item.file_size) for item in archive.infolist() if not item.is_dir()]
        else:
            with tarfile.open(path, "r:") as tar:
                listed = [(item.name, item.size) for item in tar if item.isfile()]
    except _DAMAGE as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise ValueError(
            f"{path} is a damaged or incomplete archive ({text}); download it again, or move it out of --raw"
        ) from error
    for name, size in listed:
        if not _HIDDEN.search(name):
            yield RawFile(path=path, member=name, where=f"{where}/{name}", size=size)


def by_key(files: Iterable[tuple[re.Match[str], RawFile]], key: Callable[[re.Match[str]], K]) -> dict[K, RawFile]:
    """The files by a key of their path; of an unpacked file and its archive's copy, the unpacked one.

    Raises:
        ValueError: two different files have one key.
    """
    chosen: dict[K, RawFile] = {}
    for match, file in files:
        name = key(match)
        other = chosen.setdefault(name, file)
        if other.size != file.size:
            raise ValueError(f"{other} and {file} are the same file in two sizes; remove one of them from --raw")
        if other.member and not file.member:
            chosen[name] = file
    return chosen


def pair(
    images: Mapping[Key, RawFile], labels: Mapping[Key, RawFile], remedy: str, *, label: str = "label"
) -> list[tuple[Key, RawFile, RawFile]]:
    """Images with their labels, in the order of their keys.

    Args:
        images: by key.
        labels: likewise.
        remedy: for the user, where one lacks its partner.
        label: what the data set calls a label.

    Raises:
        ValueError: an image or label lacks its partner. Names the first one, and how many there are.
    """
    if lonely := sorted(images.keys() ^ labels.keys()):
        first = lonely[0]
        there, lacks = (images[first], label) if first in images else (labels[first], "image")
        raise ValueError(f"{there} has no {lacks} ({len(lonely)} such files); {remedy}")
    return [(key, images[key], labels[key]) for key in sorted(images)]
