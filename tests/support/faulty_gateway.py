"""A gateway that lies: a list of orders, served in ways that the sandbox, which keeps its word, does not know."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import anyio
import anyio.lowlevel
import msgspec
from pydantic import SecretStr

from ordersync_consumer import tail as stream
from ordersync_consumer.envelope import Event
from tests.support.scripted_server import http
from worker.app import open_services
from worker.capture.registry import ORDERS
from worker.capture.resources import Captured
from worker.capture.state.known_bytes import KnownBytesPool
from worker.capture.state.lease import RENEW_SECONDS
from worker.capture.state.run import Run
from worker.clock import SystemClock, parse_time, rfc3339
from worker.config.sections import Account, ApiSettings, ReconcileSettings
from worker.ordermesh.contract.findings import Capabilities
from worker.services import AccountServices, Services

Record: TypeAlias = dict[str, Any]
Query: TypeAlias = dict[str, str]
Reply: TypeAlias = tuple[int, Any]
"""Status and body; a body of bytes is sent as it is."""
Narrowing: TypeAlias = Callable[[Record, int], bool]
"""Whether a record is left in by a filter for what was modified since a time, in milliseconds since 1970."""

LIST_PATH = "/order/v1/orders"
TOKEN_PATH = "/user/v1/clients/token"
FILTER = "updatedFrom"
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
START = (int(time.time() * 1000) // DAY - 10) * DAY + DAY // 2
"""When the first order was made: at noon, so that the orders of a test do not begin on one day and end on the next."""


def order(number: int, created: int, changed: int | None = None) -> Record:
    """An order with two times, in milliseconds since 1970; one that was never changed has null for the second."""
    return {
        "id": f"o{number:05d}",
        "status": "Open",
        "createdAt": rfc3339(created / 1000),
        "updatedAt": None if changed is None else rfc3339(changed / 1000),
    }


def orders(count: int, *, after: int = HOUR) -> list[Record]:
    """So many orders, the oldest first, one a minute; every third was changed `after` it was made."""
    made = [START + number * MINUTE for number in range(count)]
    return [order(number, at, at + after if number % 3 == 0 else None) for number, at in enumerate(made)]


def created(record: Record) -> int:
    """When it was made, in milliseconds since 1970."""
    return parse_time(record["createdAt"]) or 0


def modified(record: Record) -> int:
    """When it was changed last, or made if it never was."""
    return parse_time(record["updatedAt"]) or created(record)


def since_modified(record: Record, since: int) -> bool:
    """The filter of a gateway that keeps its word."""
    return modified(record) >= since


def by_creation(record: Record, since: int) -> bool:
    """A filter that takes the time of creation for that of modification."""
    return created(record) >= since


@dataclass(slots=True, kw_only=True)
class Liar:
    """Serves `records`, and lies as its fields say; a test may change them between two polls.

    `base`: the number of the first page. `lenient`: a page before the first is taken for the first, not refused.
    `clamps`: a page behind the last is taken for the last; `restarts`: for the first; `beyond`: it is refused with this
    status, or, where that is a good one, answered without a body; without all three it is empty. `cap`: most records in
    a page. `total`: it is given; `told` makes another number of it, or what is none.
    `keeps`: the filter by modification, None where it is ignored; `after_paging`: it looks at one page at a time.
    `logs`: the audit logs by the id of the order, which are then polled too; `paged` makes the answer of one, given the
    query.
    `wrap` makes the body of the answer. `interfere(path, query)` may answer in the place of all this.
    `asked` holds the queries of the requests for the list. `sent`: the headers of the request that is answered;
    `headers`: further ones of the answer. `now`: what time its answers say that it is; with `watching` that of the
    worker's clock.
    """

    records: list[Record] = field(default_factory=list)
    path: str = LIST_PATH
    base: int = 1
    lenient: bool = False
    clamps: bool = False
    restarts: bool = False
    beyond: int | None = None
    cap: int = 1_000_000
    total: bool = True
    told: Callable[[int], object] = int
    newest_first: bool = False
    keeps: Narrowing | None = None
    after_paging: bool = False
    logs: dict[str, list[Record]] = field(default_factory=dict)
    paged: Callable[[list[Record], Query], Reply] | None = None
    wrap: Callable[[Record], Any] = dict
    interfere: Callable[[str, Query], Reply | None] | None = None
    asked: list[Query] = field(default_factory=list)
    sent: dict[str, str] = field(default_factory=dict)
    headers: list[str] = field(default_factory=list)
    url: str = ""
    now: Callable[[], float] = time.time

    def change(self, number: int, **fields: Any) -> None:
        """Change a record now."""
        self.records[number] |= {"status": "Changed", "updatedAt": rfc3339(time.time()), **fields}

    def add(self, count: int) -> None:
        """Make so many orders more, each newer than all that stand in the list."""
        made = max(modified(record) for record in self.records)
        number = len(self.records)
        self.records += [order(number + one, made + (one + 1) * 1000) for one in range(count)]

    def reply(self, path: str, query: Query) -> Reply:
        """What a request is answered with."""
        if path == TOKEN_PATH:
            return 200, {"accessToken": "made-up-token", "expiresIn": 86_400}
        if path == self.path:
            self.asked.append(query)
        meddled = self.interfere(path, query) if self.interfere else None
        if meddled is not None:
            return meddled
        if path == self.path:
            return self._page(query)
        return self._one(path, query)

    def _page(self, query: Query) -> Reply:
        rows = sorted(self.records, key=modified, reverse=True) if self.newest_first else self.records
        rows = rows if self.after_paging else self._narrow(rows, query)
        size = min(int(query.get("pageSize", "50")), self.cap)
        number = int(query.get("page", self.base)) - self.base
        last = max(0, (len(rows) - 1) // size)
        if number < 0 and not self.lenient:
            return 400, {"message": "there is no such page"}
        if number > last and self.beyond and not self.clamps:
            return self.beyond, {"message": "there is no such page"} if self.beyond >= 400 else b""
        number = max(0, min(number, last) if self.clamps else number)
        number = 0 if self.restarts and number > last else number
        shown = rows[number * size : (number + 1) * size]
        body: Record = {"orders": self._narrow(shown, query) if self.after_paging else shown}
        if self.total:
            body["total"] = self.told(len(rows))
        return 200, self.wrap(body)

    def _narrow(self, rows: list[Record], query: Query) -> list[Record]:
        since, keeps = parse_time(query.get(FILTER)), self.keeps
        return rows if keeps is None or since is None else [row for row in rows if keeps(row, since)]

    def _one(self, path: str, query: Query) -> Reply:
        asked = re.fullmatch(rf"{LIST_PATH}/(o\d+)(/auditLogs)?", path)
        record = next((one for one in self.records if asked and one["id"] == asked[1]), None)
        if asked is None or record is None:
            return 404, {"message": "there is no such thing"}
        if not asked[2]:
            return 200, {"order": record}
        entries = self.logs.get(record["id"], [])
        return self.paged(entries, query) if self.paged else (200, {"auditLogs": entries})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await self._serve_one(reader, writer)
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        path, _, query = head.split(b" ", 2)[1].decode().partition("?")
        lines = [line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:]]
        self.sent, self.headers = {name.lower(): value for name, _, value in lines}, []
        status, body = self.reply(path, dict(parse_qsl(query)))
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        # Too long to be waited for within a request: the poll is put off instead.
        pause = ("Retry-After: 60",) if status == 429 else ()
        date = f"Date: {formatdate(self.now(), usegmt=True)}"
        more = ("Content-Type: application/json", date, *pause, *self.headers)
        writer.write(http(sent, *more, status=f"{status} So"))
        await writer.drain()


class MovedClock(SystemClock):
    """A clock that the test may put on or back by `offset` seconds, and on which waits take no time.

    `steady`: seconds for which it has not jumped ahead, as far as it knows.
    """

    def __init__(self, offset: float = 0.0) -> None:
        self.offset, self.steady = offset, float("inf")

    def steady_for(self) -> float:
        """What the test says."""
        return self.steady

    def now(self) -> float:
        """Seconds since 1970, as far as this clock is concerned."""
        return time.time() + self.offset

    async def sleep(self, seconds: float) -> None:
        """No wait, except between two heartbeats of a lease."""
        if seconds >= RENEW_SECONDS:
            await anyio.sleep(seconds)
        await anyio.lowlevel.checkpoint()


@dataclass(frozen=True, slots=True)
class Watch:
    """A worker's parts at work on a gateway that lies."""

    liar: Liar
    place: Services
    account: AccountServices
    clock: MovedClock

    async def poll(self, source: Captured = ORDERS, **options: Any) -> Run:
        """One poll of the orders, or of something else."""
        return await self.account.poller.poll(source, **options)

    async def found(self) -> Capabilities | None:
        """What is kept of the last probe."""
        return (await self.account.capabilities.load()).get("orders")

    async def events(self, name: str = "orders") -> list[Event]:
        """Every event of the orders, or of something else, in order."""
        key = self.account.keys.stream(name)
        return [event async for event in stream.follow(self.place.redis, key, "0", wait=False)]

    async def missing(self) -> list[str]:
        """The orders whose last event is not what is served of them."""
        last = {event.subject: json.loads(event.data) for event in await self.events()}
        return [record["id"] for record in self.liar.records if last.get(record["id"]) != record]


@asynccontextmanager
async def watching(
    liar: Liar, redis_url: str, *, confirm_deletes: float = 300.0, **api: Any
) -> AsyncIterator[Watch]:
    """`liar` served on a free port of loopback, and a worker at it that has asked nothing yet.

    `api`: settings of the API, such as `page_size=10`, and the `contract_file`; the other arguments are settings of the
    account.
    """
    working: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(liar.serve(reader, writer))
        working.add(task)
        task.add_done_callback(working.discard)

    # At the same address as before, since another one would be another gateway; two workers may be at it at once.
    server = await asyncio.start_server(serve, "127.0.0.1", urlsplit(liar.url).port or 0, reuse_port=True)
    liar.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    clock, account = (
        MovedClock(),
        msgspec.structs.replace(_account(liar, api), confirm_deletes=confirm_deletes),
    )
    liar.now = clock.now
    try:
        async with open_services([account], redis_url, clock, known=KnownBytesPool(per_bucket=0)) as place:
            yield Watch(liar, place, place.accounts[account.name], clock)
    finally:
        server.close()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)


def _account(liar: Liar, api: dict[str, Any]) -> Account:
    contract, logs = api.pop("contract_file", None), {"order_audit": 1.0} if liar.logs else {}
    settings = {"requests_per_second": 10_000, "timeout": 5, "attempts": 3, **api}
    return Account(
        name="default",
        api=ApiSettings(
            base_url=liar.url, client_id="made-up", client_secret=SecretStr("made-up"), **settings
        ),
        intervals={"orders": 1.0, **logs},
        reconcile=ReconcileSettings(lag=0),
        ignore_fields={},
        audit_history="all",
        contract_file=contract,
    )


async def reads_all(watch: Watch, *, plan: str = "sweep") -> None:
    """The next poll ends in order, and brings everything."""
    run = await watch.poll()
    assert (run.outcome, run.plan, run.error) == ("complete", plan, "")
    assert await watch.missing() == []


async def believed(watch: Watch) -> str | None:
    """The filter that is in use."""
    found = await watch.found()
    assert found is not None
    return found.since


def refused(status: int) -> Reply:
    return status, {"message": "made-up trouble"}
