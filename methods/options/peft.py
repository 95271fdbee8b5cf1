"""Options of `peft:<tuner>`: one class per row of the table, made here under the tuner's name. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, cast

from methods.options.base import Options, at_least, probability
from methods.options.peft_tuners import TESTED, Tuner
from methods.options.peft_untested import UNTESTED

TUNERS: dict[str, Tuner] = {tuner.name: tuner for tuner in (*TESTED, *UNTESTED)}

Target = Literal["qkv_fused", "qv", "qkvo"]


@dataclass(frozen=True, kw_only=True)
class PeftOptions(Options):
    """What all tuners share; the fields of a tuner are those of its row.

    `target`, where a tuner has it, says which linear layers of the attention it adapts: query, key and value as one
    layer (a backbone that keeps them apart is given one), query and value, or query, key, value and output.
    An alpha of 0 means the rank, so that a low-rank update has the factor 1.
    """

    control = True
    links_queries = False
    tuner: ClassVar[Tuner]

    def __post_init__(self) -> None:
        """Refuse what cannot be built, by the type and name of each option and by the tuner's own rule."""
        for name, default in self.tuner.options.items():
            value = getattr(self, name)
            if name.endswith("dropout"):
                probability(f"{self.name}.{name}", value)
            elif not isinstance(default, bool):
                at_least(f"{self.name}.{name}", value, min(default, 1) if isinstance(default, int) else 0)
        if defect := self.tuner.refuse(self):
            raise ValueError(f"{self.name}.{defect}")


def _options(tuner: Tuner) -> type[PeftOptions]:
    facts: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"Options of {tuner.title}, by peft's names.",
        "tuner": tuner,
        "name": f"peft:{tuner.name}",
        "title": tuner.title if tuner.tested else f"{tuner.title} (untested)",
        "paper": tuner.paper,
        "ports": MappingProxyType({"default": "from_paper" if tuner.tested else "inferred"}),
    }
    fields: list[tuple[str, Any, Any]] = [(name, type(value), value) for name, value in tuner.options.items()]
    if tuner.place != "norm":
        fields.append(("target", Target, "qkv_fused"))
    made = make_dataclass(tuner.name, fields, bases=(PeftOptions,), namespace=facts, frozen=True, kw_only=True)
    return cast(type[PeftOptions], made)


CLASSES: dict[str, type[PeftOptions]] = {name: _options(tuner) for name, tuner in TUNERS.items()}
globals().update(CLASSES)
