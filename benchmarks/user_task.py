"""A user's own sensor as a task, by the TOML file that defines it; its tiles are read by `benchmarks.user_reader`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.prepared.manifest import DomainFacts
from benchmarks.tasks import Band, DataSource, Reader, SceneSizes, Task
from benchmarks.user_definition import Definition, load_definition


@dataclass(frozen=True, kw_only=True)
class UserSource(DataSource):
    """The tiles of a user's own task; `definition` travels with a trial, so that workers need not read the file."""

    definition: Definition

    def open(self, where: SceneSizes | Path) -> Reader:
        """Find the tiles below a data root. Raises as `benchmarks.user_reader.open_user`."""
        from benchmarks.user_reader import open_user

        assert isinstance(where, Path), "a user's own task has no rendered scenes"
        return open_user(self.definition, where)

    @property
    def facts(self) -> Mapping[str, tuple[DomainFacts, ...]]:
        """Sensor, ground sampling distance and bands of each domain."""
        return self.definition.facts()


def load_task(path: Path) -> Task:
    """The task that a file defines.

    Raises:
        ValueError: there is no such file, it is no TOML, or an entry is missing, unknown or wrong. Names the file, the
            key, its value and the remedy.
    """
    definition = load_definition(path)
    sensors = [domain.sensor or domain.name for domain in definition.domains]
    shown = {
        # columns of tables are named by them
        domain.name: f"{sensor} ({domain.name})" if sensors.count(sensor) > 1 else sensor
        for domain, sensor in zip(definition.domains, sensors, strict=True)
    }
    return Task(
        name=definition.name,
        title=definition.title,
        version=definition.version,
        bands=tuple(Band(name=band.name, centre_um=band.centre_um) for band in definition.bands),
        files=UserSource(
            kind="files",
            title=definition.title,
            opener="",
            classes=tuple(entry.name for entry in definition.classes),
            palette=tuple(entry.colour for entry in definition.classes),
            source=definition.source.name,
            targets=tuple(domain.name for domain in definition.targets),
            sensors=shown,
            licence=definition.licence or "your own data",
            obtain=f"your own data, as {path} says",
            home=path.resolve().parent,
            definition=definition,
        ),
    )
