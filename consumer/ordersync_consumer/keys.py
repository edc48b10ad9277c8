"""The keys in Redis that consumers use. They begin with a prefix, `ordersync:` if the worker's settings name no other.

The keys of an account share a hash tag, so that one script can use several.
"""

from __future__ import annotations

import msgspec

PREFIX = "ordersync:"
"""The prefix of every key, if the settings do not name another."""


class Keys(msgspec.Struct, frozen=True):
    """The keys of one account: `ordersync:{account}:...`."""

    account: str
    prefix: str = PREFIX

    @property
    def base(self) -> str:
        """The prefix of every key of the account."""
        return f"{self.prefix}{{{self.account}}}:"

    def stream(self, resource: str) -> str:
        """Stream of the events of a resource."""
        return f"{self.base}stream:{resource}"

    def dead(self, resource: str) -> str:
        """Stream of the dead letters: records and events that could not be processed, with the reason."""
        return f"{self.base}dead:{resource}"

    def replayed(self, resource: str, group: str) -> str:
        """The ids of entries that are replayed for a group, until it acknowledges them."""
        return f"{self.base}replayed:{resource}:{group}"

    def consumer_lock(self, resource: str, group: str, consumer: str) -> str:
        """The process that consumes under a name, so that a second one with this name is detected."""
        return f"{self.base}holder:{resource}:{group}:{consumer}"

    def processed(self, group: str, event_id: str) -> str:
        """Marks an event as processed by a group."""
        return f"{self.base}once:{group}:{event_id}"
