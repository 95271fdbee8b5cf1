"""Adapters on disk: tensors named as in `Segmentor.trained_state`, and in the metadata what they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harness.lookup import find_method, load_class
from harness.records import replace_file
from harness.segmentor import Segmentor
from methods.base import EncoderSpec, Method
from methods.loading import load_exactly
from methods.options import Options, checked

FORMAT, FORMAT_VERSION = "dgss-bench adapter", "1"
_OWNER = "method."


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A trained method without head and encoder.

    Args:
        method: its name, or path/to/file.py:Class.
        method_version: version of its code.
        options: all its options, by name.
        spec: the encoder it was trained on.
        backbone: name of that encoder.
        scale: scale that has it at that size.
        source: name of the file it came from.
        source_sha256: hash of that file.
        tensors: by the names of `Segmentor.trained_state`.
    """

    method: str
    method_version: int
    options: Mapping[str, Any]
    spec: EncoderSpec
    backbone: str
    scale: str
    source: str
    source_sha256: str
    tensors: Mapping[str, Tensor]

    def build(self) -> Method:
        """The method alone, in evaluation mode.

        Raises:
            ValueError: it is unknown here, or tensors do not fit it.
        """
        ref = find_method(self.method)
        method: Method = load_class(ref.target, ref.source_sha256)(self.spec, ref.options_class.make(self.options))
        state = {name.removeprefix(_OWNER): tensor for name, tensor in self.tensors.items()}
        load_exactly(method, state, ref.options_class.title)
        return method.eval()

    def place(self, model: Segmentor) -> None:
        """Load it into a model built for the same method; head and encoder stay as they are.

        Raises:
            ValueError: the model's method, its options or its tensors are others.
        """
        name, theirs = type(model.method).Options.name, asdict(options_of(model.method))
        if name != find_method(self.method).name:
            raise ValueError(
                f"the adapter is for {self.method}, the model has {name}: build the model with that method"
            )
        for option in theirs:
            if theirs[option] != self.options.get(option):
                raise ValueError(
                    f"the adapter was trained with {option}={self.options.get(option)}, the model has "
                    f"{theirs[option]}: build the model with the adapter's options"
                )
        kept = {name: tensor for name, tensor in model.trained_state().items() if not name.startswith(_OWNER)}
        model.load_trained({**kept, **self.tensors})

    def write(self, path: Path) -> None:
        """Write the file whole or not at all.

        Raises:
            ValueError: it cannot be written.
        """
        facts = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "method": self.method,
            "method_version": str(self.method_version),
            "preset": str(self.options["preset"]),
            "options": json.dumps(self.options),
            "spec": json.dumps(asdict(self.spec)),
            **{name: str(getattr(self, name)) for name in ("backbone", "scale", "source", "source_sha256")},
        }
        data = save({name: tensor.contiguous() for name, tensor in self.tensors.items()}, facts)
        try:
            replace_file(path, data)
        except OSError as error:
            raise ValueError(f"{path} cannot be written ({error.strerror}): choose another file with --out") from error


def options_of(method: Method) -> Options:
    """The options a method was built with.

    Raises:
        ValueError: its class does not keep them.
    """
    options = getattr(method, "options", None)
    if not isinstance(options, Options):
        raise ValueError(
            f"{method.Options.name} does not keep its options: set self.options = options when it is built"
        )
    return options


def state_of(method: Method) -> dict[str, Tensor]:
    """A method's tensors by the names that `Segmentor.trained_state` gives them."""
    return {f"{_OWNER}{name}": tensor.detach() for name, tensor in method.state_dict().items()}


def read_adapter(path: Path) -> Adapter:
    """Read an adapter file; no code of the method is imported before `build`.

    Raises:
        ValueError: the file is missing, damaged, or of another kind or version.
    """
    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"adapter {path} cannot be read ({error}): give what `import-checkpoint` wrote") from error
    if facts.get("format") != FORMAT:
        raise ValueError(f"{path} is no adapter file: turn a published checkpoint into one with `import-checkpoint`")
    if facts["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"adapter {path} has format {facts['format_version']}, this program reads {FORMAT_VERSION}: import it again"
        )
    spec = checked(EncoderSpec, "spec", json.loads(facts["spec"]))
    plain = {name: facts[name] for name in ("method", "backbone", "scale", "source", "source_sha256")}
    return Adapter(
        **plain,
        method_version=int(facts["method_version"]),
        options=json.loads(facts["options"]),
        spec=spec,
        tensors=tensors,
    )
