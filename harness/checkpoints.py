"""Weight files that others published, read without running anything they may contain."""

from __future__ import annotations

import logging
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The tensors of a file.

    Args:
        tensors: by name; nested mappings give dotted names.
        part: key under which they lay in the file, empty if at the top.
        others: the file's other keys, which are not read.
    """

    tensors: Mapping[str, Tensor]
    part: str = ""
    others: tuple[str, ...] = ()


class _Inert:
    """Stands in for a class or function that a pickle names: it takes everything, does nothing and holds nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> _Inert:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


_NUMPY = ("_reconstruct", "scalar")
_HARMLESS = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in _NUMPY),
    *("numpy.ndarray", "numpy.dtype", "builtins.getattr", "argparse.Namespace", "pathlib.PosixPath"),
    *("mmengine.logging.history_buffer.HistoryBuffer", "mmengine.config.config.ConfigDict"),
)
"""What training frameworks pickle beside the tensors (logs, counters, settings). None of it is imported or called."""

_WRAPPERS = ("state_dict", "model", "model_state_dict", "module")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the tensors of a PyTorch or safetensors file; what kind it is, its first bytes say, not its name.

    Raises:
        ValueError: the file is missing, incomplete, no weight file, or holds more than tensors and plain values.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise ValueError(f"checkpoint {path} cannot be read ({error.strerror}): give the path of a file") from error
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**27:
        return Checkpoint(tensors=_read_safetensors(path))
    if head[:4] != b"PK\x03\x04" and head[:1] != b"\x80":
        raise ValueError(f"checkpoint {path} is {_kind(head, size)}")
    content = _read_torch(path, zipped=head[:2] == b"PK")
    if not isinstance(content, Mapping):
        raise ValueError(f"checkpoint {path} holds a {type(content).__name__}, not tensors by name: save a state dict")
    inner, part, others = content, "", []
    while wrapper := next((key for key in _WRAPPERS if isinstance(inner.get(key), Mapping)), None):
        others += [str(key) for key in inner if key != wrapper]
        inner, part = inner[wrapper], f"{part}.{wrapper}" if part else wrapper
    tensors = _flat(inner)
    if not tensors:
        raise ValueError(f"checkpoint {path} holds no tensors by name: its keys are {', '.join(map(str, content))}")
    return Checkpoint(tensors=tensors, part=part, others=tuple(others))


def _kind(head: bytes, size: int) -> str:
    """What a file is that is no weight file, and what to do."""
    if not size:
        return "empty: fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights: fetch them with `git lfs pull`, or download the file itself"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not the weights: download it in a browser, or by the address of the file itself"
    return "neither a PyTorch nor a safetensors file: give a .pth, .pt, .bin or .safetensors file"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"checkpoint {path} is damaged or incomplete ({error}): fetch it again") from error


def _read_torch(path: Path, *, zipped: bool) -> Any:
    try:
        if zipped:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # torch.load does not compare the checksums
            if damaged:
                raise ValueError(
                    f"checkpoint {path} is damaged ({damaged} does not match its checksum): fetch it again"
                )
        stand_ins: list[Any] = [(_Inert, name) for name in _HARMLESS]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_unsafe(path, str(error))) from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"checkpoint {path} is incomplete: fetch it again") from error
    except (RuntimeError, LookupError, TypeError, AttributeError, UnicodeError, OSError, struct.error) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"checkpoint {path} is damaged or no PyTorch checkpoint ({first}): fetch it again") from error


def _unsafe(path: Path, reason: str) -> str:
    named = re.search(r"GLOBAL ([\w.]+)", reason)
    log.debug("%s", reason)
    if named is None:
        return f"checkpoint {path} is damaged, or a pickle of another kind: give what torch.save or safetensors wrote"
    saved = path.with_name(f"{path.stem}.tensors.pth")
    return (
        f"checkpoint {path} holds {named[1]}, more than tensors and plain values; nothing of it was run. Only if you "
        f"trust who made it, save its tensors alone: python -c \"import torch; c = torch.load('{path}', 'cpu', "
        f"weights_only=False); c = c.state_dict() if hasattr(c, 'state_dict') else c.get('state_dict', c.get('model', "
        f"c)); t = {{k: v for k, v in c.items() if torch.is_tensor(v)}}; assert t, 'no tensors'; "
        f"torch.save(t, '{saved}')\""
    )


def _flat(content: Mapping[Any, Any], prefix: str = "") -> dict[str, Tensor]:
    """The tensors of nested mappings by dotted names; whatever else there is, is left out."""
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            tensors[f"{prefix}{name}"] = value.detach()
        elif isinstance(value, Mapping):
            tensors |= _flat(value, f"{prefix}{name}.")
    return tensors
