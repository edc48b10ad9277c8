"""Slices of a pass: they are resumed, killed anywhere, and share a resource with polls and other workers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.support.reconciling import HIDDEN, asked, be_due, coverage, one_pass, total
from tests.support.worker import BenchMaker
from worker.capture.reconcile import reconciler as reconcile
from worker.capture.reconcile.progress import (
    LEASE,
    Coverage,
    Gap,
    ReconcileCounts,
    ReconcilePass,
    ReconcileProgress,
)
from worker.capture.reconcile.verifier import Verifier
from worker.capture.registry import ORDERS
from worker.capture.state.opening import Opener, Opening
from worker.capture.state.pauses import Pause
from worker.redis.connections import answer
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio


async def test_it_is_resumed_where_it_was_stopped(few: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice ends with the batch in hand, and the next one carries on: each record is counted once."""
    monkeypatch.setattr(reconcile, "MAX_AT_ONCE", 8)
    async with few() as b:
        await b.poll()
        slices = 0

        def looks() -> int:
            return asked(b, "orders.audit_logs")

        def over(most: int) -> bool:
            return looks() >= most

        while not await coverage(b).passes():
            assert looks() < 300
            slices, most = slices + 1, looks() + 20
            await b.account.reconciler.run([ORDERS], stop=partial(over, most))
        (only,) = await coverage(b).passes()
        assert (only.counts.records, only.counts.verified) == (50, 50)
        assert slices >= 3


class Killed(BaseException):
    """The process ends here."""


def is_checked(fields: Any, _: Any) -> bool:
    """It is noted which records are about to be read by id."""
    return bool(fields.get("checking"))


def is_published(fields: Any, more: Any) -> bool:
    """The event of a gap is published, and what came of its batch is about to be noted."""
    return bool(more.get("ended") is None and fields.get("behind") and fields["counts"].healed)


def is_over(_: Any, more: Any) -> bool:
    """A pass that has healed a gap is about to end."""
    return bool(more.get("ended") and more["ended"].counts.healed)


@pytest.mark.parametrize(("point", "behind"), [(is_checked, True), (is_published, False), (is_over, False)])
async def test_killed_anywhere_it_resumes(
    few: BenchMaker, point: Any, behind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two steps of it: the gap is healed once, counted once, and all is proven in the end."""
    plain = Coverage.update

    async def note(self: Coverage, fence: int, fields: Any, **more: Any) -> None:
        if point(fields, more) and not behind:
            raise Killed
        await plain(self, fence, fields, **more)
        if point(fields, more):
            raise Killed

    async with few() as b:
        await b.poll()
        order = b.sandbox.store.ids()[0]
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status=HIDDEN)
        monkeypatch.setattr(Coverage, "update", note)
        with pytest.raises(Killed):
            await one_pass(b)
        monkeypatch.setattr(Coverage, "update", plain)
        await one_pass(b)
        assert len([event for event in await b.events() if event.reason == "reconcile"]) == 1
        assert (await total(b, "found"), await total(b, "healed"), await total(b, "open")) == (1, 1, 0)
        assert await coverage(b).gaps() == {}


async def test_one_at_a_time(few: BenchMaker) -> None:
    """Two workers share the share: the second one finds the lease taken, and does nothing."""
    async with few() as b:
        await b.poll()
        held = {"owner": "other", "fence": 1, "until": 10**15}
        await answer(b.redis.hset(b.account.keys.lease(LEASE), mapping=held))
        await b.account.reconciler.run([ORDERS])
        assert await coverage(b).load() == ReconcileProgress()
        assert "orders.audit_logs" not in b.sandbox.requests.counts()


async def test_who_has_lost_the_lease_writes_nothing(
    few: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was frozen past its lease neither publishes nor moves what is proven."""
    async with few() as b:
        await b.poll()
        order = b.sandbox.store.ids()[0]
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status=HIDDEN)
        await b.poll()
        plain = Verifier.settle

        async def settle(self: Any, looks: Any) -> bool:
            await answer(b.redis.hset(b.account.keys.lease(LEASE), "fence", 10**15))
            return bool(await plain(self, looks))

        monkeypatch.setattr(Verifier, "settle", settle)
        await b.account.reconciler.run([ORDERS])
        assert (await coverage(b).load()).counts.records == 0
        assert not [event for event in await b.events() if event.reason == "reconcile"]


@pytest.mark.parametrize("first", [True, False], ids=["in the first full scan", "later"])
async def test_what_a_poll_commits_meanwhile_is_no_loss(
    few: BenchMaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, first: bool
) -> None:
    """A slice loads the cursor, then a poll publishes: Redis holds more than the cursor says, and has lost nothing."""
    logs.configure("json", "info")
    async with few() as b:
        if not first:
            await b.poll()
            b.sandbox.store.change(7)
            await be_due(b)
        plain = Opener.open

        async def opened(self: Opener, owner: str, **options: Any) -> Opening | Pause:
            found = await plain(self, owner, **options)
            monkeypatch.setattr(Opener, "open", plain)
            assert (await b.poll()).outcome == "complete"
            return found

        monkeypatch.setattr(Opener, "open", opened)
        await b.account.reconciler.run([ORDERS])
        assert "redis_" not in capsys.readouterr().err
        assert [event.sequence for event in await b.events()] == list(range(1, 51 if first else 58))


async def test_a_note_that_is_sent_twice(few: BenchMaker) -> None:
    """It is written once if its answer was lost, and a copy that comes after a later note changes nothing."""
    async with few() as b:
        fence, keys, kept = 7, b.account.keys, coverage(b)
        sent: list[dict[str, Any]] = []
        prove = kept._prove

        async def noted(**sending: Any) -> Any:
            sent.append(sending)
            return await prove(**sending)

        kept._prove = noted  # type: ignore[assignment]
        await answer(b.redis.hset(keys.lease(LEASE), "fence", fence))
        gap = {"o1": Gap(1000, 1, "stale", 1.0)}
        ended = ReconcilePass(0, 1000, 1.0, 2.0, proven=True, counts=ReconcileCounts())
        await kept.update(fence, {"bucket": 3, "behind": "o1"}, gaps=gap, opened=gap)
        await kept.update(fence, {"bucket": 0, "complete_until": 1000}, gaps={}, closed=["o1"], ended=ended)
        before = await kept.load(), await kept.gaps(), await kept.passes()
        assert before[1:] == ({}, [ended])
        opening, ending = sent
        assert await prove(**ending) == [b"ok"]
        assert await prove(**opening) == [b"fenced", b"7"]
        assert (await kept.load(), await kept.gaps(), await kept.passes()) == before
        await kept.update(fence, {"bucket": 9}, gaps={})
        assert (await kept.load()).bucket == 9


async def test_it_waits_until_a_poll_has_looked_for_a_loss(few: BenchMaker) -> None:
    """A worker that was killed may have given out numbers that Redis has lost: a poll looks, under its lease."""
    async with few() as b:
        await b.poll()
        await be_due(b)
        b.services.given_out.doubt("default/orders")
        await b.account.reconciler.run([ORDERS])
        assert asked(b, "orders.audit_logs") == 0
        assert (await coverage(b).load()).due_at > b.services.clock.now()
        await one_pass(b)
