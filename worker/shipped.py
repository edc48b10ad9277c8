"""The files that come with the program: schemas, AsyncAPI, systemd unit, configuration of Redis, alerts, dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDERS = {
    "schemas": "events, dead letters and lines, by version",
    "editors": "files that a person writes: accounts, contract profile, fault rules",
    "redis": "configuration of Redis: settings and users",
    "systemd": "the unit of the daemon",
    "prometheus": "what Prometheus scrapes, and alerts",
    "loki": "alerts on the log",
    "grafana": "the dashboard, for import",
}
"""What a folder contains. A file that is in none of them describes an interface."""
_INTERFACE = "an interface: events, log lines, `status --json`"
_NAMES = ("asyncapi.yaml", "log-events.schema.json", "status.schema.json")


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """A file. `path`: its path among them, such as `schemas/order.1.json`. `about`: what it is for."""

    path: str
    about: str
    source: Path

    @property
    def name(self) -> str:
        """The short name: without folder and ending, such as `order.1`, `accounts` or `redis.conf`."""
        name = Path(self.path).name
        for ending in (".schema.json", ".json", ".yaml"):
            name = name.removesuffix(ending)
        return name

    def text(self) -> str:
        """Return the content."""
        return self.source.read_text(encoding="utf-8")


def files() -> list[ShippedFile]:
    """Return all of them. In a wheel they are in the package; in a checkout, in the folder `deploy` beside it."""
    package = Path(__file__).parent
    folder = package / "shipped"
    if not folder.is_dir():
        folder = package.parent / "deploy"
    found = [ShippedFile(name, _INTERFACE, folder / name) for name in _NAMES]
    for part, about in FOLDERS.items():
        found += [
            ShippedFile(f"{part}/{path.name}", about, path) for path in sorted((folder / part).iterdir())
        ]
    return found
