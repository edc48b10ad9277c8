"""An erasure while consumers, polls, resyncs and reconciliation work, and one that is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from ordersync_consumer import Consumer, Delivery
from tests.support.commands import ordersync
from tests.support.erasing import POLLED, SECRET, Case
from tests.support.reconciling import coverage, one_pass
from worker.admin.erase import Erasing
from worker.capture.erasure import Eraser
from worker.capture.registry import CAPTURED, ORDERS
from worker.capture.resync.requests import ResyncRequest, ResyncState
from worker.capture.state.run import Outcome

pytestmark = pytest.mark.anyio


async def test_consumers_with_events_in_hand(case: Case) -> None:
    """They go on: an entry that was erased is pending for nobody, and no dead letter is made of it."""
    keys, client = case.b.account.keys, case.b.redis
    stream = keys.stream("orders")
    await client.xgroup_create(stream, "plain", id="0")
    ((_, entries),) = await client.xreadgroup("plain", "p-1", {stream: ">"}, count=10_000)
    mine = [entry_id for entry_id, fields in entries if fields[b"subject"].decode() == case.order]
    assert mine
    handled: list[str] = []

    async def handle(delivery: Delivery) -> None:
        if delivery.event.subject == case.order and delivery.event.action != "erased":
            if not handled or handled[-1] != "erased now":
                case.erase(case.order, "--yes")
                handled.append("erased now")
            raise ValueError(SECRET)
        handled.append(delivery.event.action)

    consumer = Consumer(
        client, group="kit", name="k-1", resources=["orders"], wait=False, block=0.05, max_deliveries=1
    )
    async with consumer:
        await consumer.run(handle)
    assert handled[-1] == "erased"
    assert await client.xlen(keys.dead("orders")) == 0
    cursor, claimed, *_ = await client.xautoclaim(stream, "plain", "p-2", 0, count=10_000)
    assert cursor == b"0-0"
    assert {entry_id for entry_id, _ in claimed}.isdisjoint(mine)
    assert all(fields for _, fields in claimed)


class Killed(Exception):
    """The process ends here."""


class Deadly:
    """Lets the process end at one of its calls to Redis."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.is_armed, self._calls, self._fatal = False, 0, 0
        for kind, name in ((Redis, "execute_command"), (Pipeline, "execute")):
            patch.setattr(kind, name, self._around(getattr(kind, name)))

    @contextmanager
    def at(self, call: int) -> Iterator[None]:
        """End the process at this call."""
        self.is_armed, self._calls, self._fatal = True, 0, call
        try:
            yield
        finally:
            self.is_armed = False

    def _around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def called(*words: Any, **options: Any) -> Any:
            if self.is_armed:
                self._calls += 1
                if self._calls == self._fatal:
                    raise Killed
            return await original(*words, **options)

        return called


async def test_killed_anywhere(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever call to Redis is the last one, the same command finishes the work, and each record has one event."""
    deadly, keys = Deadly(monkeypatch), case.b.account.keys
    killed, is_done = 0, False
    while not is_done:
        erasing = Erasing(case.b.redis, keys, None, case.b.services.clock, f"w-{killed}")
        try:
            with deadly.at(killed + 1):
                await erasing.erase(await erasing.scope("orders", [case.order]), [case.order])
            is_done = True
        except Killed:
            killed += 1
            await case.b.redis.delete(keys.lease("erase"))  # it expires
    assert killed > 20
    assert await case.kept(SECRET) == set()
    for name in POLLED:
        subjects = [event.subject for event in await case.b.events(name) if event.action == "erased"]
        assert len(subjects) == len(set(subjects))
    assert await case.of("orders", case.order) == ["erased"]


async def test_a_poll_between_look_up_and_commit(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has the record in hand when it is erased does not put it back."""
    store = type(case.b.store)
    original = store.commit
    erased: list[bool] = []

    async def commit(self: Any, content: Any) -> bool:
        if any(change.observed.identifier == case.order for change in content.changes) and not erased:
            erased.append(True)
            eraser = Eraser(case.b.redis, case.b.account.keys, case.b.services.clock, "other")
            async with eraser.lease() as lease:
                paths = {case.order: (case.order,)}
                assert await eraser.mark(lease, CAPTURED["orders"], paths) == 1
                await eraser.purge(CAPTURED["orders"], paths)
        return await original(self, content)

    case.b.sandbox.store.change([case.order], status="In Production")
    monkeypatch.setattr(store, "commit", commit)
    run = await case.b.poll(complete=True)
    assert erased
    assert run.outcome is Outcome.COMPLETE
    assert await case.of("orders", case.order) == ["erased"]


async def test_the_proof_leaves_it_out(case: Case) -> None:
    """A pass says how many records it says nothing of, and closes their gaps; the others are proven as before."""
    keys = case.b.account.keys
    case.erase(case.order, "--yes")
    case.b.sandbox.store.change([case.order], status="In Production")
    progress = await one_pass(case.b)
    (last, *_) = reversed(await coverage(case.b).passes())
    assert (last.proven, last.counts.erased, last.counts.open) == (True, 1, 0)
    assert last.counts.verified == last.counts.records == len(case.b.sandbox.store.truth()) - 1
    assert progress.complete_until == last.until
    assert await case.of("orders", case.order) == ["erased"]
    assert not await case.b.redis.exists(keys.gaps("orders"))
    shown = ordersync("coverage", "orders", cwd=case.folder, redis__url=case.url).stdout
    assert "Nothing is proven of 1 record that was erased" in shown


async def test_a_resync_leaves_it_out(case: Case) -> None:
    """Also one that publishes everything: it counts the record as erased, not as unchanged."""
    case.erase(case.order, "--yes")
    resyncs = case.b.account.resyncer.resyncs
    for request in (
        ResyncRequest(resource="orders", ids=(case.order,), force=True),
        ResyncRequest(resource="orders", all=True, force=True),
    ):
        made = await resyncs.create(request, case.b.services.clock.now())
        while (ended := await resyncs.get(made.id)) is not None and ended.state is not ResyncState.DONE:
            await case.b.account.resyncer.slice(ORDERS, made.id)
        assert ended is not None
        assert (ended.state, ended.erased, ended.unchanged, ended.missed) == (ResyncState.DONE, 1, 0, 0)
    assert await case.of("orders", case.order) == ["erased"]
    report = case.erase(case.order, "--yes", "--json")
    assert report["resyncs"] == 1  # the one that named the id
    assert len(await resyncs.all()) == 1
