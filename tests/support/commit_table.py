"""A store and a lease, used by hand: what a poll does with the scripts, one call at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from ordersync_consumer import tail as stream
from ordersync_consumer.envelope import Event
from tests.support.streams import KEYS
from worker.capture.records.actions import UNWRITTEN
from worker.capture.records.decoding import decode, newest_of_each
from worker.capture.records.diff import Change, decide
from worker.capture.records.fields import FieldIndex
from worker.capture.records.raw_records import observe
from worker.capture.registry import ORDERS
from worker.capture.state.commit import Commit
from worker.capture.state.store import StateStore
from worker.redis import scripts

BUCKETS = 8


class Table:
    """A store and a lease, used by hand."""

    def __init__(self, client: Redis) -> None:
        self.redis, self.store, self.fields = client, StateStore(client, KEYS, ORDERS), FieldIndex()
        self.fence = 0

    async def changes(self, *records: dict[str, Any] | bytes) -> list[Change]:
        """What a poll would commit for these records."""
        raws = [
            msgspec.Raw(each if isinstance(each, bytes) else json.dumps(each).encode()) for each in records
        ]
        observed = observe(ORDERS, raws)
        found = await self.store.differing(observed, BUCKETS)
        newest = newest_of_each(
            [decode(ORDERS, observed[at], state, frozenset()) for at, state in found.items()]
        )
        decoded = list(newest.values())
        names = [name for one in decoded if one.content for name in one.content.names]
        await self.store.extend_fields(self.fields, list(dict.fromkeys(names)))
        decided = [decide(one, self.fields, baseline=True) for one in decoded]
        return [change for change in decided if change.action not in UNWRITTEN]

    async def commit(self, changes: Sequence[Change], **options: Any) -> bool:
        """Commit them under the lease that was taken."""
        defaults: dict[str, Any] = {
            "fence": self.fence,
            "buckets": BUCKETS,
            "reason": "poll",
            "observed_at": 1_800_000_000.0,
            "where": "orders.search page 0",
            "cursor": {"sweep_page": 1},
        }
        return await self.store.commit(Commit(changes=changes, **defaults | options))

    async def lease(self, verb: str, owner: str = "me", ms: int = 60_000) -> list[Any]:
        """The lease script alone."""
        script = scripts.load(self.redis, "worker.capture", "lease", begin=("leases",))
        result: list[Any] = await script(keys=[KEYS.lease("orders")], args=[verb, owner, ms])
        return result

    async def events(self) -> list[Event]:
        """Every event."""
        return [each async for each in stream.follow(self.redis, KEYS.stream("orders"), "0", wait=False)]

    async def everything(self) -> dict[bytes, bytes]:
        """All that is in Redis."""
        return {key: await self.redis.dump(key) for key in await self.redis.keys("*")}
