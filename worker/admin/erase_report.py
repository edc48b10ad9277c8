"""The report of an erasure: what was removed, and where the records may be as well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class ErasedResource:
    """What was removed of one resource, or would be: its records, those newly marked, events and dead letters."""

    resource: str
    records: tuple[str, ...]
    marked: int = 0
    events: int = 0
    dead_letters: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it as it appears in JSON."""
        return {
            "resource": self.resource,
            "records": list(self.records),
            "marked": self.marked,
            "events": self.events,
            "dead_letters": self.dead_letters,
        }


@dataclass(slots=True)
class ErasureReport:
    """What was erased, or would be, and what has to be done elsewhere.

    `runs`, `resyncs`, `probes`: records of reads that named one of the ids. `groups`: consumer groups that may have
    read the events. `remarks`: what could not be found out, or not be removed.
    """

    resources: list[ErasedResource] = field(default_factory=list)
    runs: int = 0
    resyncs: int = 0
    probes: int = 0
    groups: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)

    @property
    def elsewhere(self) -> dict[str, str]:
        """Where the records may be as well, and what to do there."""
        groups = ", ".join(self.groups) or "no group reads these streams now"
        return {
            "OrderMesh": "Erase the records there. Until then they stay marked, and new records that belong to them, "
            "such as a note or a shipment, are published.",
            "copies of consumers": "Each group gets the events `erased`, and has to remove what it stored "
            f"({groups}). A consumer that had an event in hand just now may still store it.",
            "files and replicas of Redis": "Run BGREWRITEAOF and BGSAVE in Redis; until then its files contain "
            "what was removed. Replicas follow, their files do not.",
            "backups": "Let them expire. Run this command again after one is restored.",
            "log files, traces, the operator log, marks of RedisOnce and SqlOnce": "They contain ids and hashes; "
            "logs also what commands and receivers of events answered. They expire by their own settings.",
        }
