"""Methods that installed packages offer under the entry-point group `dgss_bench.methods`; reads metadata alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

from harness.sources import fingerprint
from methods import METHODS

GROUP = "dgss_bench.methods"


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """An entry point: its name, the `module:Class` it leads to, and the distribution with its version."""

    name: str
    target: str
    distribution: str


def installed() -> dict[str, list[Plugin]]:
    """Every entry point of the group, by name; more than one where distributions clash."""
    found: dict[str, list[Plugin]] = {}
    for point in entry_points(group=GROUP):
        who = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        plugin = Plugin(name=point.name, target=point.value.partition("[")[0].replace(" ", ""), distribution=who)
        found.setdefault(point.name, []).append(plugin)
    return found


def sole(name: str, offers: Sequence[Plugin]) -> Plugin:
    """The one plug-in of a name, as far as its metadata tell.

    Raises:
        ValueError: the name is also that of a built-in or of another distribution's plug-in, or leads nowhere.
    """
    owners = [f"{plugin.target} of {plugin.distribution}" for plugin in offers]
    if name in METHODS:
        owners.insert(0, f"{METHODS[name]}, built in")
    if len(owners) > 1:
        raise ValueError(
            f"{len(owners)} methods are called {name!r} ({'; '.join(owners)}): uninstall what you do not need, or "
            f"give an entry point and its Options class another name"
        )
    (plugin,) = offers
    where, colon, attribute = plugin.target.partition(":")
    if not (where and colon and attribute):
        raise ValueError(f"plug-in {name} of {plugin.distribution} leads to {plugin.target!r}: write module:Class")
    return plugin


def defects() -> dict[str, str]:
    """What is wrong with installed plug-ins, by name, as far as it shows without an import."""
    found = {}
    for name, offers in installed().items():
        try:
            fingerprint(sole(name, offers).target.partition(":")[0])
        except ValueError as error:
            found[name] = str(error)
    return found
