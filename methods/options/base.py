"""What every method's options share, and how typed text becomes checked options. Free of torch."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

T = TypeVar("T")
Port = Literal["author_checked", "vector_checked", "from_paper", "inferred"]
"""Who vouches for a port: its authors, golden vectors of the released code, its paper, or our best reading."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a method can be told (its fields) and what is known about it (its class variables).

    Tables give the difference to the method marked `baseline`. `links_queries = False` says that the method never gives
    the head linked queries. A method marked `control` takes part only where a suite or the user names it.
    `published_m` holds the published trainable parameters, in millions, by backbone, for the default options.
    A preset is a named set of field values, taken when `preset` names it; an option given beside it wins.
    A variant is one too, for an ablation: `variant=NAME` goes over the preset and under the options given. It is no
    field, so that a variant which says what the defaults say is the same trial.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    version: ClassVar[int] = 1
    lr_scale: ClassVar[float] = 1.0
    control: ClassVar[bool] = False
    baseline: ClassVar[bool] = False
    links_queries: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType({})
    variants: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType({})
    ports: ClassVar[Mapping[str, Port]]
    published_m: ClassVar[Mapping[str, float]] = MappingProxyType({})

    preset: str = "default"

    @classmethod
    def make(cls, given: Mapping[str, Any]) -> Self:
        """Options from names and values; values may be strings, as typed on a command line.

        Raises:
            ValueError: an unknown option, preset or variant (the nearest name is suggested), or a value that does not
                fit.
        """
        preset = str(given.get("preset", cls.preset))
        if preset not in cls.ports:
            raise ValueError(f"unknown preset {cls.name}.preset={preset}{nearest(preset, cls.ports)}")
        chosen: Mapping[str, object] = {}
        if cls.variants and "variant" in given:
            variant = str(given["variant"])
            if variant not in cls.variants:
                raise ValueError(f"unknown variant {cls.name}.variant={variant}{nearest(variant, cls.variants)}")
            chosen = cls.variants[variant]
            given = {name: value for name, value in given.items() if name != "variant"}
        return checked(cls, cls.name, cls.translated({**cls.presets.get(preset, {}), **chosen, **given}))

    @classmethod
    def translated(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values to check, for methods that also accept words of their paper."""
        return values

    @property
    def needs_depth(self) -> bool:
        """Whether the method reads the depth encoder."""
        return False

    @property
    def head_queries(self) -> int | None:
        """How many queries the head must have for these options; None leaves it to the scale."""
        return None

    @property
    def port(self) -> Port:
        """Who vouches for the port under the chosen preset."""
        return self.ports[self.preset]


def published(vit_l: float, sam_h: float) -> Mapping[str, float]:
    """Published millions of parameters: one number for every backbone of ViT-L's shape, another for SAM-H."""
    return MappingProxyType({**dict.fromkeys(("clip", "dinov2", "dinov3", "dofa", "eva02"), vit_l), "sam": sam_h})


def at_least(option: str, value: float, least: float) -> None:
    """Refuse a value that is too small.

    Raises:
        ValueError: it is; the message names the option.
    """
    if value < least:
        raise ValueError(f"{option}={value}: must be at least {least}")


def probability(option: str, value: float) -> None:
    """Refuse a dropout that is no probability below 1.

    Raises:
        ValueError: it is not; the message names the option.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{option}={value}: must be in [0, 1)")


def checked(cls: type[T], owner: str, values: Mapping[str, Any]) -> T:
    """A frozen dataclass from names and values (strings are converted), checked.

    Args:
        cls: the dataclass.
        owner: what stands before the dot in messages.
        values: fields by name; those left out take their default.

    Raises:
        ValueError: an unknown field (the nearest is suggested), or a value that does not fit.
    """
    known = [field.name for field in fields(cast(Any, cls))]
    for name in values:
        if name not in known:
            raise ValueError(f"unknown option {owner}.{name}{nearest(name, known)}")
    try:
        made: T = _adapter(cast(Any, cls)).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":
            raise first["ctx"]["error"] from None
        option = f"{owner}.{first['loc'][0]}"
        # a field of several types has a complaint for each
        said = dict.fromkeys(found["msg"] for found in error.errors() if found["loc"][0] == first["loc"][0])
        wrong = " or ".join(text[0].lower() + text[1:] for text in said)
        raise ValueError(f"{option}={first['input']}: {wrong}") from None
    for name in known:
        value = getattr(made, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{owner}.{name}={value}: must be a finite number")
    return made


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    """Building one takes milliseconds, and a plan checks thousands of options."""
    return TypeAdapter(cls)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message on an unknown name: the nearest known one, then all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f"{guess} (known: {', '.join(names) or 'none'})"
