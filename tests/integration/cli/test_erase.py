"""`ordersync erase`: nothing of a record remains in Redis but that it was erased, and nothing of it comes back."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from ordersync_consumer import Consumer, Delivery
from tests.support.commands import ordersync
from tests.support.reconciling import SOON, coverage, one_pass
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import Bench, BenchMaker
from worker.admin.erase import Erasing
from worker.app import announce
from worker.capture.erasure import Eraser
from worker.capture.registry import CAPTURED, ORDERS
from worker.capture.resync.requests import ResyncRequest, ResyncState
from worker.capture.state.refresh_queue import RefreshQueue, log_of
from worker.capture.state.run import Outcome
from worker.config.sections import EventSettings
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer

pytestmark = pytest.mark.anyio

POLLED = (
    "orders",
    "order_items",
    "shipments",
    "notes",
    "order_audit",
    "shipment_audit",
    "package_audit",
    "note_audit",
)
SECRET = "Marlowe Quillfeather"


@dataclass(slots=True)
class Case:
    """A worker that has published everything, and the order of a customer with all that belongs to it."""

    b: Bench
    url: str
    folder: Path
    order: str
    note: str
    shipment: str

    def erase(self, *words: str, code: int = 0) -> Any:
        """The command, with the login of the account."""
        settings = {
            "api__base_url": self.b.sandbox.url,
            "api__client_id": CLIENT_ID,
            "api__client_secret": CLIENT_SECRET,
        }
        done = ordersync("erase", *words, cwd=self.folder, redis__url=self.url, **settings)
        assert done.returncode == code, done.stderr
        if code:
            return done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout

    async def read_all(self) -> None:
        """Poll everything, as a daemon does, to the end."""
        for name in POLLED:
            run = await self.b.account.poller.poll(CAPTURED[name], complete=True)
            assert run.outcome is Outcome.COMPLETE, (name, run.outcome, run.error)

    async def kept(self, *texts: str) -> set[str]:
        """The keys whose content has one of these texts, or is the state of the order."""
        wanted, found = [text.encode() for text in texts], set[str]()
        async for key in self.b.redis.scan_iter(match="*", count=1000):
            content = await contents(self.b.redis, key)
            if any(text in part for text in wanted for part in content):
                found.add(key.decode())
        return found

    async def of(self, name: str, subject: str) -> list[str]:
        """The actions of the events of a record that are in the stream."""
        return [event.action for event in await self.b.events(name) if event.subject == subject]


async def contents(client: Any, key: bytes) -> list[bytes]:
    """Everything that a key contains, decompressed where it is a stored record."""
    kind = (await client.type(key)).decode()
    flat: list[bytes] = []
    if kind == "string":
        flat = [await client.get(key) or b""]
    elif kind == "hash":
        flat = [part for pair in (await client.hgetall(key)).items() for part in pair]
    elif kind == "list":
        flat = await client.lrange(key, 0, -1)
    elif kind == "set":
        flat = list(await client.smembers(key))
    elif kind == "zset":
        flat = await client.zrange(key, 0, -1)
    elif kind == "stream":
        flat = [part for _, fields in await client.xrange(key) for pair in fields.items() for part in pair]
    result = list(flat)
    for part in flat:
        try:
            result.append(zlib.decompress(part[8:], -15))
        except zlib.error:
            continue
    return result


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """Few orders: each test reads everything several times."""
    with SandboxServer(orders=16) as server:
        yield server


@pytest.fixture
async def case(bench: BenchMaker, redis_url: str, tmp_path: Path) -> AsyncIterator[Case]:
    """An order with a shipment, packages, a note and audit logs; old values are stored."""
    options = {
        "events": EventSettings(previous=True),
        "intervals": dict.fromkeys(POLLED, 1.0),
        "reconcile": SOON,
    }
    async with bench(**options) as b:
        await announce(b.services)
        order = next(
            each for each in map(json.loads, b.sandbox.store.truth().values())
            if each["shipmentIds"] and each["status"] == "In Production"
        )  # fmt: skip
        note = {"text": f"for {SECRET}", "resource": {"id": order["id"], "type": "order"}}
        made = await b.account.client.notes.create(note)
        one = Case(b, redis_url, tmp_path, order["id"], str(made.fields["id"]), order["shipmentIds"][0])
        await one.read_all()
        await b.account.client.orders.hold(order["id"])
        await one.read_all()
        yield one


async def test_nothing_remains(case: Case) -> None:
    """Of the order and what belongs to it the ids remain; of all others everything does."""
    before = {name: await case.b.events(name) for name in POLLED}
    await case.b.redis.xadd(
        case.b.account.keys.dead("notes"),
        {"kind": "delivery", "reason": "x", "subject": case.note, "where": "1-1", "time": "2026-03-02T10:41:07Z",
         "group": "g", "data": SECRET},
    )  # fmt: skip
    await case.b.redis.xadd(
        case.b.account.keys.dead("orders"),
        {"kind": "record", "reason": "no id", "subject": "", "where": "orders.search 3", "time": "", "data":
         f'{{"x": "{case.order}"}}'},
    )  # fmt: skip
    report = case.erase(case.order, "--yes", "--json")
    by_name = {row["resource"]: row for row in report["resources"]}
    assert set(by_name) >= {"orders", "shipments", "notes", "order_audit", "shipment_audit", "note_audit"}
    assert case.note in by_name["notes"]["records"]
    assert (by_name["notes"]["dead_letters"], by_name["orders"]["dead_letters"]) == (1, 1)
    gone = {(name, subject) for name, row in by_name.items() for subject in row["records"]}
    assert ("shipments", case.shipment) in gone
    for name in POLLED:
        after = await case.b.events(name)
        others = [event for event in before[name] if (name, event.subject) not in gone]
        assert [event for event in after if event.action != "erased"] == others
        erased = [event for event in after if event.action == "erased"]
        known = {event.subject for event in before[name]} & {subject for of, subject in gone if of == name}
        assert known <= {event.subject for event in erased}
        for event in erased:
            assert json.loads(event.data) == {"id": event.subject}
            assert event.reason == "erase"
        numbers = [event.sequence for event in after]
        assert numbers == sorted(set(numbers))
    assert await case.kept(SECRET) == set()
    places = {key.split(":", 2)[2].split(":")[0] for key in await case.kept(case.order)}
    assert places == {"stream", "operator_log"}  # the events that tell of it, and the command


async def test_nothing_comes_back(case: Case) -> None:
    """Neither polls nor full scans nor resyncs publish an erased record, though OrderMesh serves and changes it."""
    case.erase(case.order, "--yes")
    case.b.sandbox.store.change([case.order], status="In Production")
    await RefreshQueue(case.b.redis, case.b.account.keys, "order_audit").add([log_of(case.order)])
    for _ in range(2):
        await case.read_all()
    run = await case.b.poll(complete=True)
    assert (run.erased, run.missing, run.deleted, run.published) == (1, 0, 0, 0)
    assert await case.of("orders", case.order) == ["erased"]
    assert await case.of("notes", case.note) == ["erased"]
    assert await case.of("order_audit", case.order) == ["erased"]
    assert await case.kept(SECRET) == set()
    again = case.erase(case.order, "--yes", "--json")
    assert {row["resource"]: row["marked"] for row in again["resources"] if row["marked"]} == {}
    assert await case.of("orders", case.order) == ["erased"]


async def test_forgetting_an_erasure(case: Case) -> None:
    """The record is published again, as created, with the next version."""
    case.erase(case.order, "--yes")
    told = case.erase(case.order, "--forget", "--json")
    assert told["forgotten"] >= 4
    assert case.erase(case.order, "--forget", "--json")["forgotten"] == 0
    await case.read_all()
    events = [event for event in await case.b.events() if event.subject == case.order]
    assert [event.action for event in events] == ["erased", "created"]
    assert events[1].version == events[0].version + 1
    assert await case.of("notes", case.note) == ["erased", "created"]


async def test_a_record_that_ordermesh_erases_too(case: Case) -> None:
    """It is published as deleted, once, and its mark is gone."""
    case.erase("--resource", "notes", case.note, "--yes")
    await case.b.account.client.notes.delete(case.note)
    case.b.adjust(confirm_deletes=0.0)

    async def is_deleted() -> bool:
        await case.b.account.poller.poll(CAPTURED["notes"], complete=True)
        return await case.of("notes", case.note) == ["erased", "deleted"]

    await eventually(is_deleted, PATIENCE)


async def test_a_preview_writes_nothing(case: Case) -> None:
    """It names the same records and numbers as the command that follows."""
    before = {name: await case.b.events(name) for name in POLLED}
    preview = case.erase(case.order, "--dry-run", "--json")
    assert {name: await case.b.events(name) for name in POLLED} == before
    done = case.erase(case.order, "--yes", "--json")
    assert [row | {"marked": 0} for row in preview["resources"]] == [
        row | {"marked": 0} for row in done["resources"]
    ]
    assert preview["dry_run"] is True
    assert done["dry_run"] is False


async def test_words(case: Case) -> None:
    """The output names what is out of reach; unknown ids and resources get advice; nothing happens without a yes."""
    shown = case.erase(case.order, "--yes")
    for words in ("BGREWRITEAOF", "copies of consumers", "OrderMesh", "backups"):
        assert words in shown
    assert "Redis keeps nothing of nobody" in case.erase("nobody", "--yes", code=1)
    assert "not a resource with records of its own" in case.erase("a", "--resource", "order_audit", code=2)
    assert "pass --yes" in case.erase(case.note, "--resource", "notes", code=2)


async def test_by_redis_alone(case: Case) -> None:
    """Without the gateway, the streams and the stored states show what belongs to the order."""
    report = case.erase(case.order, "--yes", "--offline", "--json")
    assert {"notes", "shipments", "order_audit"} <= {row["resource"] for row in report["resources"]}
    assert any("--offline" in remark for remark in report["remarks"])
    assert await case.kept(SECRET) == set()


async def test_a_resource_that_was_never_read(case: Case) -> None:
    """Nothing of it can be marked, and the output says that its first read publishes the record."""
    await case.b.redis.delete(case.b.account.keys.cursor("orders"))
    report = case.erase(case.order, "--yes", "--json")
    assert any("No worker has read orders" in remark for remark in report["remarks"])
    assert not any(
        "No worker has read" in remark
        for remark in case.erase(case.note, "--resource", "notes", "--yes", "--json")["remarks"]
    )


async def test_events_that_are_gone_from_the_streams(case: Case) -> None:
    """What belongs to an order is found through OrderMesh when retention has removed its events."""
    for name in POLLED:
        await case.b.redis.xtrim(case.b.account.keys.stream(name), maxlen=0, approximate=False)
    report = case.erase(case.order, "--yes", "--json")
    by_name = {row["resource"]: row for row in report["resources"]}
    assert case.note in by_name["notes"]["records"]
    assert case.shipment in by_name["shipments"]["records"]
    assert await case.kept(SECRET) == set()  # the records that were stored for old values, above all


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
