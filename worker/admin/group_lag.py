"""How many events each consumer group still had to handle, sampled by this process over the last 24 hours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.admin.status import Row

SAMPLE_SECONDS = 60.0
DAY_SECONDS = 86_400.0
MOST = 200
"""Samples of a group; when there are more, every second one is dropped, so the older ones are farther apart."""
MAX_GROUPS = 500
"""Groups that are sampled; the others are shown without a curve."""

Sample = tuple[float, int]
"""When it was taken (seconds since 1970), and the events that were unread or pending."""
_Name = tuple[str, str, str]


class GroupLag:
    """The samples of all groups, by account, resource and group. They end with the process."""

    def __init__(self) -> None:
        self._samples: dict[_Name, list[Sample]] = {}

    def add(self, at: float, rows: Iterable[Row]) -> None:
        """Take a sample of each group in the rows of the status, and forget the groups that are gone."""
        found = {
            (row["account"], row["resource"], group["group"]): group["unread"] + group["pending"]
            for row in rows
            for group in row["groups"]
        }
        for name in self._samples.keys() - found.keys():
            del self._samples[name]
        for name, waiting in found.items():
            if name in self._samples or len(self._samples) < MAX_GROUPS:
                kept = [item for item in self._samples.get(name, ()) if 0 <= at - item[0] <= DAY_SECONDS]
                self._samples[name] = [*(kept[::2] if len(kept) >= MOST else kept), (at, waiting)]

    def of(self, account: str, resource: str, group: str) -> list[Sample]:
        """Return the samples of a group, the latest last."""
        return list(self._samples.get((account, resource, group), ()))
