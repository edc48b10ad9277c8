"""Redis loses what was committed to it: what is lost is published again, no number comes twice, and it is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis.exceptions
from redis.asyncio import Redis

from ordersync_consumer.envelope import Event
from tests.support.servers import Server
from tests.support.worker import Bench, BenchMaker
from worker.capture.causes import Cause
from worker.capture.health import Health, Verdict, judge
from worker.capture.records.raw_records import observe
from worker.capture.registry import CAPTURED, ORDERS
from worker.capture.session import PollSession
from worker.capture.state.given_out import GivenOut
from worker.capture.state.run import Outcome
from worker.capture.writer import RecordWriter
from worker.errors import RedisFull, RedisWentBack
from worker.redis import scripts
from worker.reporting import remember, reporter
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """A few orders: a full scan is two pages."""
    with SandboxServer(orders=12) as server:
        yield server


async def change(b: Bench, number: int, count: int = 3) -> list[Event]:
    """Change some orders, and publish that."""
    before = len(await b.events())
    b.sandbox.store.change(b.sandbox.store.ids()[:count], note=f"step {number}")
    await b.poll(complete=True)
    return (await b.events())[before:]


class Table:
    """What a consumer keeps of each order, by entry id; and by version, as many do."""

    def __init__(self) -> None:
        self.by_entry: dict[str, tuple[tuple[int, ...], bytes]] = {}
        self.by_version: dict[str, tuple[int, bytes]] = {}
        self.ids: dict[str, bytes] = {}
        self.sequences: dict[int, str] = {}
        self._read: set[str] = set()

    def take(self, events: list[Event]) -> None:
        """Apply events that were not read before."""
        for event in events:
            if event.entry_id in self._read:
                continue
            self._read.add(event.entry_id)
            place = tuple(map(int, event.entry_id.split("-")))
            if place > self.by_entry.get(event.subject, ((0,), b""))[0]:
                self.by_entry[event.subject] = place, event.data
            if event.version > self.by_version.get(event.subject, (0, b""))[0]:
                self.by_version[event.subject] = event.version, event.data
            assert self.ids.setdefault(event.id, event.data) == event.data, f"{event.id} with another content"
            assert self.sequences.setdefault(event.sequence, event.id) == event.id, f"{event.sequence} twice"

    def check(self, b: Bench) -> None:
        """It holds what OrderMesh has."""
        truth = b.sandbox.store.truth()
        for kept in (self.by_entry, self.by_version):
            assert {key: value[1] for key, value in kept.items()} == truth


LOSSES = {
    "last seconds": ("redis_went_back", "Redis went back to an earlier state and lost 3 events at least"),
    "backup": ("redis_went_back", "Redis went back to an earlier state and lost 15 events at least"),
    "everything": ("redis_lost_its_data", "Redis lost its data, 27 events at least"),
    "FLUSHALL": ("redis_lost_its_data", "Redis lost its data, 27 events at least"),
}


@pytest.mark.parametrize("kind", LOSSES)
async def test_redis_goes_back(
    kind: str, bench: BenchMaker, own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker lives on: it notices, says so, and no number is given out twice."""
    event, words = LOSSES[kind]
    async with bench(url=own_server.url, page_size=10) as b:
        table = Table()
        await b.poll()
        copy = own_server.back_up()
        for number in range(1 if kind == "last seconds" else 5):
            table.take(await change(b, number))
        highest = max(table.sequences)
        if kind == "FLUSHALL":
            await b.redis.flushall()
        else:
            own_server.go_back(None if kind == "everything" else copy)
        b.sandbox.store.change(b.sandbox.store.ids()[:4], note="after the loss")
        await b.poll()
        table.take(await b.events())
        table.check(b)
        (line,) = lines(caplog)
        assert line["event"] == event
        assert (line["expected"], line["resource"], line["in_doubt"]) == (highest, "orders", False)
        # Until a full scan has ended, it is said; that was this poll.
        cursor = await b.cursor()
        assert (cursor.loss, cursor.lost_at) == (words, 0)
        assert judge(cursor, b.services.clock.now()).health is Health.OK
        assert judge(msgspec.structs.replace(cursor, lost_at=1.0), cursor.fresh_as_of) == Verdict(
            Health.DEGRADED,
            f"{words}; until a full scan has ended, published data may be older than it was",
            Cause.REDIS_LOST_DATA,
        )
        # The next life goes on in the same generation, and says nothing.
        table.take(await change(b, 100))
        table.check(b)
        assert lines(caplog) == []


async def test_redis_goes_back_within_a_read(bench: BenchMaker, own_server: Server) -> None:
    """A commit to a Redis that went back since the one before it writes nothing; the next read goes on from there."""
    async with bench(url=own_server.url, page_size=10) as b:
        table = Table()
        await b.poll()
        session = PollSession(b.account.poller.context, ORDERS, reason="test")
        with session.trace("test"):
            async with session.open():
                copy = own_server.back_up()
                b.sandbox.store.change(b.sandbox.store.ids()[:2], note="lost")
                await publish(session, b)
                table.take(await b.events())
                own_server.go_back(copy)
                before = await b.redis.hgetall(b.account.keys.cursor("orders"))
                with pytest.raises(RedisWentBack, match=r"14 is the last .* only those up to 12"):
                    await session.update({"mark": 17})
                assert await b.redis.hgetall(b.account.keys.cursor("orders")) == before
        b.sandbox.store.change(b.sandbox.store.ids()[:2], note="after the loss")
        await b.poll()
        table.take(await b.events())
        table.check(b)


async def publish(session: PollSession, b: Bench) -> None:
    """Publish every order that has changed, in this session."""
    records = observe(ORDERS, [msgspec.Raw(record) for record in b.sandbox.store.truth().values()])
    await RecordWriter(session).write(records, where="test", checkpoint=lambda _: None)


@pytest.mark.parametrize("ended", [True, False], ids=["ended in order", "killed"])
async def test_the_next_life_notices(
    bench: BenchMaker, own_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, ended: bool
) -> None:
    """What an earlier life published is in the data folder, up to its last heartbeat if it was killed."""
    table, folder = Table(), tmp_path / "data"
    async with bench(url=own_server.url, page_size=10, given_out=GivenOut(folder)) as b:
        await b.poll()
        copy = own_server.back_up()
        await remember(b.services)
        table.take(await change(b, 1))
        if ended:
            b.services.given_out.save(ended=True)
    own_server.go_back(copy)
    async with bench(url=own_server.url, page_size=10, given_out=GivenOut(folder)) as b:
        b.sandbox.store.change(b.sandbox.store.ids()[:4], note="after the loss")
        await b.poll()
        table.take(await b.events())
        table.check(b)
        (line,) = lines(caplog)
        # Killed, it knows of its last heartbeat alone: Redis was started again since, so it may have lost something.
        assert (line["event"], line["in_doubt"], line["events"]) == ("redis_went_back", not ended, 3 * ended)
        await remember(b.services)
    async with bench(url=own_server.url, page_size=10, given_out=GivenOut(folder)) as b:
        table.take(await change(b, 2))
        table.check(b)
        assert lines(caplog) == [], "the server is the same, so nothing can be lost"


async def test_a_restart_loses_nothing(
    bench: BenchMaker, own_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A Redis that is killed and comes back with all of its append-only file: the numbers go on without a gap."""
    async with bench(url=own_server.url, page_size=10, given_out=GivenOut(tmp_path / "data")) as b:
        await b.poll()
        await remember(b.services)
        own_server.stop(kill=True)
        own_server.start()
        events = await change(b, 1)
        assert [(event.sequence, event.version) for event in events] == [(13, 2), (14, 2), (15, 2)]
        assert lines(caplog) == []


@pytest.mark.parametrize("knows", [True, False], ids=["the same life", "a life that knows nothing"])
@pytest.mark.parametrize("key", ["cursor", "stream", "fields"])
async def test_a_key_is_lost(
    bench: BenchMaker, redis_url: str, caplog: pytest.LogCaptureFixture, key: str, *, knows: bool
) -> None:
    """Without its cursor, a resource goes on with the states; without its stream or field names, it begins anew."""
    given_out = GivenOut()
    async with bench(page_size=10, given_out=given_out) as b:
        table = Table()
        await b.poll()
        table.take(await b.events())
        await change(b, 1)
        table.take(await b.events())
        before = await b.cursor()
    async with bench(page_size=10, given_out=given_out if knows else GivenOut()) as b:
        await b.redis.delete(f"{b.account.keys.base}{key}:orders")
        b.sandbox.store.change(b.sandbox.store.ids()[:2], note="after the loss")
        (new,) = b.sandbox.store.create(1)
        await b.poll(complete=True)
        events = [event for event in await b.events() if event.sequence > before.sequence]
        table.take(events)
        table.check(b)
        (line,) = lines(caplog)
        assert (line["event"], line["resource"]) == ("redis_lost_a_key", "orders")
        if key == "cursor":
            assert {event.subject: event.action for event in events} == {
                **dict.fromkeys(b.sandbox.store.ids()[:2], "updated"),
                new: "created",
            }
            after = await b.cursor()
            assert (after.buckets, after.tracked, after.places) == (before.buckets, 13, 13)
        else:
            assert [event.action for event in events] == ["snapshot"] * 13
        assert await change(b, 2)
        assert lines(caplog) == []


AGAIN = {"stream", "fields", "seen"}
"""Keys without which records, or audit entries, are published again: Redis has lost that they were."""
SAID = {"cursor", "stream", "fields", "seen"}
"""Keys whose loss the log names. Without another one, the worker asks for what was in it, or makes it again. The states
of audit logs are not counted: what was published of them is published again."""


async def test_each_key_deleted(
    bench: BenchMaker, redis_url: str, sandbox: SandboxServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever key of the account is deleted while the worker runs: no change is missed, and none comes twice."""
    audit = CAPTURED["order_audit"]
    sources = (ORDERS, audit)
    options = {"page_size": 10, "intervals": {"orders": 1.0, "order_audit": 1.0}}
    async with bench(**options) as b:
        for _ in range(2):
            sandbox.store.change(3, note="x")
            for source in sources:
                await b.poll(source)
        await reporter(b.services)()
        keys = sorted(key.decode() for key in await b.redis.keys("*"))
        kept = {key: await b.redis.dump(key) for key in keys}
    buckets = {key.rpartition(":")[0]: key for key in keys if key.rpartition(":")[2].isdigit()}
    chosen = [key for key in keys if not key.rpartition(":")[2].isdigit()] + list(buckets.values())
    assert len(chosen) > 15
    for key in chosen:
        kind = key.removeprefix("ordersync:{default}:").partition(":")[0]
        async with bench(**options) as b:
            await b.redis.flushall()
            for name, dump in kept.items():
                await b.redis.restore(name, 0, dump)
            for source in sources:
                await b.poll(source)
            before = {source.name: await b.events(source.name) for source in sources}
            changed = (
                sandbox.store.change(sandbox.store.ids()[:2], note=f"without {key}") + sandbox.store.create()
            )
            lines(caplog)
            await b.redis.delete(key)
            for source in (*sources, *sources):
                run = await b.poll(source, complete=source is ORDERS)
            assert run.outcome is Outcome.COMPLETE, key
            known = {event.entry_id for events in before.values() for event in events}
            table = {event.subject: event.data for event in before["orders"]}
            new = [event for event in await b.events() if event.entry_id not in known]
            table |= {event.subject: event.data for event in new}
            assert table == sandbox.store.truth(), key
            if not (kind in AGAIN and key.count("order_audit") == 0):
                assert sorted(event.subject for event in new) == sorted(changed), key
                assert [event.action for event in new if event.subject in changed[:2]] == ["updated"] * 2, key
            entries = [event for event in await b.events("order_audit") if event.entry_id not in known]
            assert {event.subject for event in entries} == set(changed), key
            if kind not in AGAIN:
                assert len(entries) == 3, key
            said = kind in SAID and key != buckets[b.account.keys.states("order_audit")]
            assert [line["event"] for line in lines(caplog)] == ["redis_lost_a_key"] * said, key


@pytest.mark.parametrize("fault", ["SCRIPT FLUSH", "noeviction reached"])
async def test_nothing_is_lost(
    bench: BenchMaker, own_server: Server, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Redis forgets the scripts, or refuses writes for lack of memory: all goes on afterwards without a gap."""
    async with bench(url=own_server.url, page_size=10) as b:
        await b.poll()
        if fault == "SCRIPT FLUSH":
            await b.redis.script_flush()
        else:
            await b.redis.config_set("maxmemory", 1)
            b.sandbox.store.change(2, note="refused")
            assert (await b.poll()).error_code == RedisFull.code
            (beat,) = await reporter(b.services)()
            assert (beat.health, beat.cause) == (Health.DEGRADED, str(RedisFull()))
            await b.redis.config_set("maxmemory", 0)
        await change(b, 1, 12)
        assert [event.sequence for event in await b.events()] == list(range(1, 25))
        assert lines(caplog) == []


async def test_the_stream_is_lost_within_a_read(bench: BenchMaker) -> None:
    """A commit does not create a stream that is gone: what consumers had not read would be lost unnoticed."""
    async with bench(page_size=10) as b:
        await b.poll()
        session = PollSession(b.account.poller.context, ORDERS, reason="test")
        with session.trace("test"):
            async with session.open():
                await b.redis.delete(b.account.keys.stream("orders"))
                with pytest.raises(RedisWentBack, match="the stream of orders is gone"):
                    await session.update({"mark": 17})
        await b.poll()
        assert len(await b.events()) == 12


async def test_the_answer_of_a_commit_is_lost(
    bench: BenchMaker, own_server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis executed the commit: it is not done twice, and the run is recorded once with what it has published."""
    async with bench(url=own_server.url, page_size=10) as b:
        lost = lose_answers(monkeypatch, b)
        run = await b.poll()
        assert len(lost) > 1
        assert (run.outcome, run.snapshot) == (Outcome.COMPLETE, 12)
        assert [event.sequence for event in await b.events()] == list(range(1, 13))
        ((_, record),) = await b.redis.xrange(b.account.keys.runs)
        assert record[b"snapshot"] == b"12"
        assert lines(caplog) == []


def lose_answers(monkeypatch: pytest.MonkeyPatch, b: Bench) -> list[str]:
    """Lose the first answer to each commit, after Redis has executed it; return the commits whose answers were lost."""
    begins = {"commit": ("bits", "chain"), "progress": ("chain",)}
    shas = {scripts.load(b.redis, "worker.capture", name, begin=begin).sha for name, begin in begins.items()}
    lost: list[str] = []
    send: Any = Redis._send_command_parse_response

    async def loses(self: Redis, connection: Any, name: str, *words: Any, **options: Any) -> Any:
        answer: Any = await send(self, connection, name, *words, **options)
        if shas.intersection(words[:2]) and (not lost or lost[-1] != words[-1]):
            lost.append(words[-1])
            raise redis.exceptions.ConnectionError("the answer is lost")
        return answer

    monkeypatch.setattr(Redis, "_send_command_parse_response", loses)
    return lost


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The lines of the log since the last call that are about a loss."""
    found = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    caplog.clear()
    return [
        line
        for line in found
        if line["event"] in {"redis_went_back", "redis_lost_its_data", "redis_lost_a_key"}
    ]
