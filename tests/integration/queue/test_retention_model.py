"""Retention against a model of what groups still need."""

from __future__ import annotations

import random
import time
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from ordersync_consumer.groups import Groups, RetentionLimits, StreamStatus
from tests.support.retaining import trim
from tests.support.servers import Server
from tests.support.streams import KEYS, STREAM, Writer
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000
GROUPS = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 150), st.integers(0, 3000)),
    st.tuples(st.just("group"), GROUPS, st.floats(0, 1)),
    st.tuples(st.just("drop"), GROUPS, st.none()),
    st.tuples(st.just("read"), GROUPS, st.integers(1, 200)),
    st.tuples(st.just("ack"), GROUPS, st.floats(0, 1)),
    st.tuples(st.just("replay"), GROUPS, st.floats(0, 1)),
    st.tuples(st.just("trim"), st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 200_000)),
              st.sampled_from([1, 7, 100, 5000])),
)  # fmt: skip


class Model:
    """What is in the stream, and what each group still needs."""

    def __init__(self, client: Redis) -> None:
        self.writer, self.redis = Writer(client), client
        self.start = int(time.time() * 1000) - 2 * 86_400_000
        self.kept: list[str] = []
        self.delivered: dict[str, int] = {}
        """For each group: how many of all entries ever written have been delivered to it."""
        self.pending: dict[str, set[str]] = {}

    async def step(self, what: str, first: Any, second: Any, rng: random.Random) -> None:
        """Do it to both."""
        ids = self.writer.ids
        if what == "add":
            at = self.start + len(ids) * MINUTE_MS
            self.kept += await self.writer.add(first, data=b"x" * second, at=at, apart=MINUTE_MS)
        elif what == "group" and first not in self.delivered and self.kept:
            behind = int(second * len(ids))
            start = ids[behind - 1] if behind else "0"
            await self.redis.xgroup_create(STREAM, first, id=start)
            self.delivered[first], self.pending[first] = behind, set()
        elif what == "trim":
            await self.trim(*first, step=second)
        elif first in self.delivered:
            await self.step_of_group(what, first, second, rng)

    async def step_of_group(self, what: str, group: str, amount: Any, rng: random.Random) -> None:
        """What is done with a group that exists."""
        ids = self.writer.ids
        if what == "drop":
            assert await Groups(self.redis, KEYS).drop("orders", group)
            del self.delivered[group], self.pending[group]
        elif what == "read":
            read = await self.writer.read(group, amount, rng.choice("xyz"))
            # The rule itself: nothing is missing between what was delivered before and now.
            assert read == [each for each in ids[self.delivered[group] :] if each in set(self.kept)][:amount]
            if read:
                begun = ids.index(read[0])
                assert begun == max(self.delivered[group], ids.index(self.kept[0]))
                self.delivered[group] = begun + len(read)
            self.pending[group] |= set(read)
        elif what == "ack":
            some = rng.sample(sorted(self.pending[group]), int(amount * len(self.pending[group])))
            if some:
                assert await self.redis.xack(STREAM, group, *some) == len(some)
            self.pending[group] -= set(some)
        elif what == "replay":
            done = [each for each in self.kept if ids.index(each) < self.delivered[group]]
            some = rng.sample(done, int(amount * len(done)))
            if some:
                await self.redis.xclaim(
                    STREAM, group, "ordersync-replay", 0, [*some], force=True, justid=True
                )
            self.pending[group] |= set(some)

    def needed(self, group: str) -> list[str]:
        """What the group still needs of what is there."""
        ids = self.writer.ids
        return [
            each
            for each in self.kept
            if each in self.pending[group] or ids.index(each) >= self.delivered[group]
        ]

    async def trim(self, entries: int, young: int, size: int, *, step: int) -> None:
        """Trim; `young`: how many of all entries ever written the limit on age keeps."""
        ids = self.writer.ids
        cutoff = self.start + max(0, len(ids) - young) * MINUTE_MS - MINUTE_MS // 2
        age = (time.time() * 1000 - cutoff) / 1000 if young else 0.0
        limits = RetentionLimits(max_age=age, max_entries=entries, max_bytes=size)
        needed = {group: self.needed(group) for group in self.delivered}
        firsts = [self.kept.index(each[0]) for each in needed.values() if each]
        over = max(
            len(self.kept) - entries if entries else 0,
            sum(1 for each in self.kept if int(each.partition("-")[0]) < cutoff) if young else 0,
        )
        await trim(self.redis, step=step, max_age=age, max_entries=entries, max_bytes=size)
        left, before = await self.writer.left(), self.kept
        self.kept = left
        assert left == before[len(before) - len(left) :], "something else than the oldest has gone"
        for group, each in needed.items():
            assert set(each) <= set(left), f"{group} has lost what it needs"
        removed, safe = len(before) - len(left), min(firsts, default=len(before))
        assert removed >= min(over, safe), "it kept what it need not"
        if not size:
            assert removed == min(max(over, 0), safe)
        survey = await Groups(self.redis, KEYS).status("orders", limits)
        if size and removed < safe:
            assert survey.bytes <= size or removed == len(before)
        firsts_of = {name: before.index(each[0]) if each else len(before) for name, each in needed.items()}
        self.check(survey, None if size else {name: max(0, over - at) for name, at in firsts_of.items()})

    def check(self, survey: StreamStatus, held: dict[str, int] | None) -> None:
        """The survey counts what is so, from a handful of lookups."""
        ids = self.writer.ids
        assert survey.entries == len(self.kept)
        assert {group.name for group in survey.groups} == set(self.delivered)
        for group in survey.groups:
            unread = [each for each in self.kept if ids.index(each) >= self.delivered[group.name]]
            assert group.unread == len(unread)
            assert group.oldest_unread == (unread[0] if unread else "")
            assert group.pending == len(self.pending[group.name])
            assert group.oldest_pending == min(self.pending[group.name], default="", key=_order)
            assert held is None or group.held == held[group.name]


def _order(entry_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry_id.split("-"))


async def live(url: str, steps: list[tuple[str, Any, Any]], seed: int) -> None:
    """Do the steps, and trim hard at the end."""
    client = connect(url)
    try:
        await client.flushall()
        model, rng = Model(client), random.Random(seed)
        for what, first, second in [("add", 50, 100), *steps]:
            await model.step(what, first, second, rng)
        await model.trim(1, 0, 0, step=100)
    finally:
        await client.aclose()


@settings(
    max_examples=100,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=3, max_size=25), seed=st.integers(0, 1000))
def test_no_entry_that_a_group_needs_is_ever_gone(
    steps: list[tuple[str, Any, Any]], seed: int, server: Server
) -> None:
    """Whatever groups, deliveries, acknowledgements, replays and limits; and what nobody needs does go."""
    anyio.run(live, server.url, steps, seed)
