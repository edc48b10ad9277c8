"""Records are published in the same way, whoever reads them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import msgspec
import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.servers import Server
from tests.support.worker import Bench, BenchContext, BenchMaker
from worker.capture.reconcile import reconciler
from worker.capture.reconcile.comparison import Window
from worker.capture.reconcile.verifier import RecordCheck
from worker.capture.records.actions import UNWRITTEN
from worker.capture.records.decoding import decode, newest_of_each
from worker.capture.records.diff import decide
from worker.capture.records.fingerprint import link_of, pack_id, sequence_of, unpack_id
from worker.capture.records.raw_records import observe
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import OVER, ResyncRequest
from worker.capture.session import PollSession
from worker.capture.state import lease as leases
from worker.capture.state.commit import Checkpoint, Commit
from worker.capture.state.record_states import buckets_of
from worker.capture.state.refresh_queue import RefreshQueue, record
from worker.capture.writer import RecordWriter
from worker.capture.written import Keep, Written
from worker.config.sections import ReconcileSettings
from worker.queue.search import Chain, ChainEnd, EventSearch
from worker.redis.connections import answer
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

IDS = tuple("abcdefghij")
NAMES = b'{"id":"names","content":0,"only0":true,"only1":true,"updatedAt":"2026-01-01T00:00:00Z"}'
"""A record with every field: the places of the fields, which are part of a state, do not depend on who reads."""
EVER = Window(0, 10**13)


@dataclass(frozen=True)
class Served:
    """A record as OrderMesh serves it: its content, when it was modified (None: not said), and how it is written."""

    content: int
    minute: int | None
    spaces: bool = False

    def raw(self, identifier: str) -> bytes:
        """Return its bytes."""
        order = {"id": identifier, "content": self.content, f"only{self.content % 2}": True}
        if self.minute is not None:
            order["updatedAt"] = f"2026-01-01T00:{self.minute:02}:00Z"
        return json.dumps(order, separators=(" , ", " : ") if self.spaces else (",", ":")).encode()


served = st.builds(Served, st.integers(0, 3), st.none() | st.integers(0, 3), st.booleans())
generation = st.fixed_dictionaries(dict.fromkeys(IDS, served))


async def by_scan(b: Bench) -> None:
    """Read the list to its end."""
    assert (await b.poll(complete=True)).outcome == "complete"


async def by_refresh(b: Bench) -> None:
    """Read each record by its id, since it is due."""
    await RefreshQueue(b.redis, b.account.keys, "orders").add(map(record, IDS))
    assert (await b.poll(follow_ups_only=True)).follow_ups == len(IDS)


async def by_resync(b: Bench) -> None:
    """Read the list, since a person has asked for it."""
    resyncs = b.account.resyncer.resyncs
    name = (await resyncs.create(ResyncRequest(resource="orders", all=True), b.services.clock.now())).id
    for _ in range(10):
        await b.account.resyncer.slice(ORDERS, name)
        resync = await resyncs.get(name)
        assert resync is not None
        if resync.state in OVER:
            return
    raise AssertionError("the resync does not end")


async def by_resync_of_ids(b: Bench) -> None:
    """Read each record by its id, since a person has asked for it."""
    resyncs = b.account.resyncer.resyncs
    name = (await resyncs.create(ResyncRequest(resource="orders", ids=IDS), b.services.clock.now())).id
    await b.account.resyncer.slice(ORDERS, name)
    resync = await resyncs.get(name)
    assert resync is not None
    assert (resync.state in OVER, resync.missing) == (True, ())


async def by_reconciliation(b: Bench) -> None:
    """Read each record by its id, since its audit log does not cover it."""
    before = b.sandbox.requests.count("orders.get")
    await answer(b.redis.hset(b.account.keys.reconcile("orders"), "due_at", "0"))
    await b.account.reconciler.run([ORDERS])
    assert b.sandbox.requests.count("orders.get") == before + len(IDS) + 1


async def by_the_oracle(b: Bench) -> None:
    """Publish as written down here: what each caller of the writer has to come to."""
    cursor, fields = await b.cursor(), await b.store.load_fields()
    observed = observe(ORDERS, [msgspec.Raw(raw) for raw in b.sandbox.store.truth().values()])
    found = await b.store.differing(observed, cursor.buckets)
    newest = newest_of_each([decode(ORDERS, observed[i], state, frozenset()) for i, state in found.items()])
    decoded = list(newest.values())
    names = [name for one in decoded if one.content for name in one.content.names]
    await b.store.extend_fields(fields, list(dict.fromkeys(names)))
    changes = [decide(one, fields, baseline=True, older=True) for one in decoded]
    lease = leases.acquire(
        b.redis, b.account.keys.lease("orders"), resource="orders", owner="oracle", clock=b.services.clock
    )
    async with lease as taken:
        assert await b.store.commit(
            Commit(
                fence=taken.fence,
                buckets=cursor.buckets,
                reason="test",
                observed_at=b.services.clock.now(),
                changes=[change for change in changes if change.action not in UNWRITTEN],
            )
        )


CALLERS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "oracle": by_the_oracle,
    "scan": by_scan,
    "refresh": by_refresh,
    "resync": by_resync,
    "resync_ids": by_resync_of_ids,
    "reconcile": by_reconciliation,
}


async def published(b: Bench) -> list[tuple[object, ...]]:
    """Return what was published, in the order of the records."""
    return sorted(
        (
            event.subject,
            event.version,
            event.id,
            event.type,
            event.time if b"updatedAt" in event.data else "",  # otherwise when it was read
            event.changed,
            event.data,
        )
        for event in await b.events()
    )


async def states(b: Bench) -> dict[bytes, bytes]:
    """Return the state that is kept of each record, without the link, which leads to all events of the record."""
    kept: dict[bytes, bytes] = {}
    for bucket in range(await buckets_of(b.redis, b.account.keys.cursor("orders"))):
        kept |= await answer(b.redis.hgetall(f"{b.account.keys.states('orders')}:{bucket}"))
    events, search = await b.events(), EventSearch(b.redis)
    for key, packed in kept.items():
        subject, link = unpack_id(key), link_of(packed)
        own = tuple(event for event in events if event.subject == subject)
        assert (subject is not None and bool(link)) is bool(own)
        if own:
            chain = await search.follow(b.account.keys.stream("orders"), own[0].subject, own[-1].sequence)
            assert (sequence_of(link), chain) == (own[-1].sequence, Chain(own, ChainEnd.COMPLETE))
            kept[key] = packed.removesuffix(link)
    return kept


async def live(generations: list[dict[str, Served]], url: str) -> None:
    """Let an account for each caller read the same records, and compare them with the oracle's."""
    with SandboxServer(orders=0) as sandbox:
        async with AsyncExitStack() as stack:
            accounts: dict[str, Bench] = {}
            for name in CALLERS:
                context = BenchContext(sandbox, url, {"name": name, "reconcile": ReconcileSettings(lag=0)})
                accounts[name] = await stack.enter_async_context(context)
            first, *later = generations
            sandbox.store.replace("names", NAMES)
            plant(sandbox, first)
            for b in accounts.values():
                await by_scan(b)
            for records in later:
                plant(sandbox, records)
                for name, read in CALLERS.items():
                    await read(accounts[name])
                    await confirm(accounts[name])
                results = {name: await result(b) for name, b in accounts.items()}
                assert results == dict.fromkeys(CALLERS, results["oracle"])


async def confirm(b: Bench) -> None:
    """Read the records by id that were shown with an older time than was published."""
    keys = b.account.keys
    for _ in range(2):  # the first such read may be the first one that shows the older time
        members = await answer(b.redis.zrange(keys.refresh_queue("orders"), 0, -1))
        await RefreshQueue(b.redis, keys, "orders").add(member.decode() for member in members)
        await b.poll(follow_ups_only=True)
    assert await answer(b.redis.hgetall(keys.stale("orders"))) == {}


async def result(b: Bench) -> tuple[object, ...]:
    """Return what was published, what is kept, and the counts in the cursor."""
    cursor = await b.cursor()
    return await published(b), await states(b), cursor.tracked, cursor.sequence


@asynccontextmanager
async def writing(b: Bench) -> AsyncIterator[tuple[PollSession, RecordWriter]]:
    """Yield a writer of orders, and its session."""
    session = PollSession(b.account.poller.context, ORDERS, reason="test")
    async with session.open():
        yield session, RecordWriter(session)


def nothing(_: Written) -> None:
    """Move nothing besides the records."""


async def test_of_a_record_that_was_read_twice_the_newer_one_counts(bench: BenchMaker) -> None:
    """Whatever the order in which they were read: one event, and no conflict of the record with itself."""
    async with bench() as b:
        await b.poll()
        known = b.sandbox.store.ids()[0]
        records = [msgspec.Raw(Served(minute, minute).raw(known)) for minute in (1, 3, 2)]
        async with writing(b) as (session, writer):
            observed = observe(ORDERS, records, session.options.scope)
            written = await writer.write(observed, where="here", checkpoint=nothing)
            assert [change.modified // 60_000 % 60 for change in written.changes] == [3]
        assert [event.data for event in (await b.events())[50:]] == [Served(3, 3).raw(known)]


async def test_a_record_that_another_run_commits_meanwhile(bench: BenchMaker) -> None:
    """It is looked up once more, and so is what else the commit moves; nothing is published twice."""
    async with bench() as b:
        await b.poll()
        first, second = b.sandbox.store.ids()[:2]
        records = [msgspec.Raw(Served(1, 1).raw(each)) for each in (first, second)]
        asked = []

        def checkpoint(written: Written) -> Checkpoint:
            asked.append([change.observed.identifier for change in written.changes])
            return Checkpoint({"held_back": len(asked)})

        async with writing(b) as (session, writer):
            observed = observe(ORDERS, records, session.options.scope)
            decoded = await writer.look_up(observed)
            await RecordWriter(session).write(observed[:1], where="there", checkpoint=nothing)
            await writer.write(observed, where="here", checkpoint=checkpoint, decoded=decoded)
        assert asked == [[first, second], [second]]
        assert [event.subject for event in (await b.events())[50:]] == [first, second]
        assert (await b.cursor()).held_back == 2


@pytest.mark.parametrize(("minute", "is_published"), [(None, False), (1, False), (2, True)])
async def test_a_record_that_was_read_before_another_run_has_published_it(
    bench: BenchMaker, minute: int | None, *, is_published: bool
) -> None:
    """Only a later time says that it is newer. Without one it is read again by its id, and not published meanwhile."""
    async with bench() as b:
        await b.poll()
        first, second = b.sandbox.store.ids()[:2]
        records = [msgspec.Raw(Served(1, minute).raw(first)), msgspec.Raw(Served(1, 1).raw(second))]
        async with writing(b) as (session, writer):
            observed = observe(ORDERS, records, session.options.scope)
            decoded = await writer.look_up(observed)
            newer = observe(ORDERS, [msgspec.Raw(Served(2, 1).raw(first))], session.options.scope)
            await RecordWriter(session).write(newer, where="there", checkpoint=nothing)
            await writer.write(observed, where="here", checkpoint=nothing, decoded=decoded)
        told = [event.subject for event in (await b.events())[50:]]
        assert told == ([first, first, second] if is_published else [first, second])
        due = await b.redis.zrange(b.account.keys.refresh_queue("orders"), 0, -1)
        assert (record(first).encode() in due) is not is_published


async def test_what_is_not_kept_is_neither_published_nor_remembered(bench: BenchMaker) -> None:
    """The caller is told which records these are; a forced one is published though it has not changed."""
    async with bench() as b:
        await b.poll()
        ids = b.sandbox.store.ids()[:5]
        answers = dict(zip(ids, [Keep.PUBLISH, Keep.FORCE, Keep.SKIP, Keep.BY_ID, Keep.BY_LIST], strict=True))
        before = await states(b)
        records = [msgspec.Raw(b.sandbox.store.truth()[each]) for each in ids]
        records[2:] = [msgspec.Raw(Served(1, 1).raw(each)) for each in ids[2:]]
        async with writing(b) as (session, writer):
            written = await writer.write(
                observe(ORDERS, records, session.options.scope),
                where="here",
                checkpoint=nothing,
                keep=lambda record: answers[record.observed.identifier],
                unchanged=True,
            )
        assert {
            each.observed.identifier: keep for keep, some in written.skipped.items() for each in some
        } == {each: keep for each, keep in answers.items() if keep in written.skipped}
        assert [event.subject for event in (await b.events())[50:]] == [ids[1]]
        changed = {key for key, state in (await states(b)).items() if state != before[key]}
        assert changed == {pack_id(ids[1])}


def plant(sandbox: SandboxServer, records: dict[str, Served]) -> None:
    """Serve these records."""
    for identifier, one in records.items():
        sandbox.store.replace(identifier, one.raw(identifier))


BEFORE = dict.fromkeys(IDS, Served(1, 1))
AFTER = BEFORE | {"a": Served(2, 2), "b": Served(2, 0), "c": Served(1, 1, spaces=True), "d": Served(2, None)}
"""Changed; changed, but older, to be confirmed; other bytes, same content; changed without a time; others unchanged."""


@settings(
    max_examples=3,  # each has ten records, which do not depend on each other
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(generations=st.lists(generation, min_size=2, max_size=3))
@example(generations=[BEFORE, AFTER])
def test_every_caller_publishes_the_same(generations: list[dict[str, Served]], shared_server: Server) -> None:
    """The same records lead to the same events, with the same ids, and to the same states, whoever reads them."""
    with redis.Redis.from_url(shared_server.url) as client:
        client.flushall()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconciler, "window_of", lambda *_, **__: EVER)
        patch.setattr(RecordCheck, "is_suspect", property(lambda _: True))
        anyio.run(live, generations, shared_server.url)
