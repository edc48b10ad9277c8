"""A page server that costs next to nothing, so that a benchmark measures its reader.

`python -m tests.bench.source --orders 20000` prints one JSON line (`url`, `client_id`, `client_secret`)
and then serves on loopback until it is terminated, or until standard input ends with `--watch-stdin`:

- `POST /user/v1/clients/token`: any credentials, a token of 24 hours;
- `GET /order/v1/orders?page=&pageSize=`: rendered once for each page and kept;
- `GET /order/v1/orders/{id}`: one order;
- `POST /_change?n=K`: changes status and `updatedAt` of K orders;
- `POST /_latency?ms=M`: delays every later order answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import lru_cache
from typing import Any, cast
from urllib.parse import parse_qs

import orjson
import uvloop

START = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = ("Open", "InProduction", "Fulfilled", "Cancelled")
CLIENT_ID = "bench-client"
CLIENT_SECRET = "bench-made-up"
PAGE_SIZE = 50
LARGEST_PAGE = 1000


def stamp(moment: datetime) -> str:
    """A time as the order service writes it: seven digits of a second, then Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"


def address(rng: random.Random) -> dict[str, Any]:
    return {
        "firstName": rng.choice(("Ada", "Grace", "Linus", "Edsger")),
        "lastName": f"{rng.getrandbits(24):06x}",
        "line1": f"{rng.randrange(1, 9999)} Main Street",
        "line2": None,
        "city": "Springfield",
        "state": "IL",
        "zip": f"{rng.randrange(10000, 99999)}",
        "countryCode": "US",
        "phone": f"+1217{rng.randrange(10**6, 10**7)}",
    }


def money(amount: float) -> dict[str, Any]:
    return {"currency": "USD", "amount": round(amount, 2)}


def order(index: int, rng: random.Random, size: int) -> dict[str, Any]:
    """One order with 36 top-level fields, `size` bytes of compact JSON where the padding allows it."""
    created = START + timedelta(seconds=7 * index, microseconds=rng.randrange(10**6))
    order_id = f"{0x65ADD270:08x}{rng.getrandbits(40):010x}{index:06x}"
    price = rng.randrange(500, 9000) / 100
    home = address(rng)
    record: dict[str, Any] = {
        "items": [
            {
                "id": f"{rng.getrandbits(96):024x}",
                "shortId": f"I{index:08d}",
                "externalId": None,
                "sku": f"Apparel-DTG-Tee-{rng.choice('SMLX')}-{rng.randrange(100):02d}",
                "quantity": rng.randrange(1, 4),
                "status": "Open",
                "createdAt": stamp(created),
                "updatedAt": None,
                "images": [
                    {
                        "url": f"https://images.example.com/{rng.getrandbits(64):016x}.png",
                        "area": "Front",
                        "printMethod": "DirectToGarment",
                        "ourFileId": f"{rng.getrandbits(64):016x}",
                    }
                ],
                "options": [{"name": "color", "value": "black"}],
                "merchantPrice": money(price),
                "merchantTax": money(price * 0.07),
                "isSample": False,
                "refundData": None,
            }
        ],
        "merchantItemTotal": money(price),
        "merchantTaxTotal": money(price * 0.07),
        "merchantShippingTotal": money(4.99),
        "merchantTotal": money(price * 1.07 + 4.99),
        "reprint": None,
        "facilityNames": ["Springfield North"],
        "shipmentCreatedDates": [],
        "shipmentIds": [f"{rng.getrandbits(32):08x}-5f1c-4a57-9c55-{rng.getrandbits(48):012x}"],
        "id": order_id,
        "shortId": f"O{index:08d}",
        "shippingAddress": home,
        "billingAddress": home,
        "returnAddress": None,
        "safeId": f"safe-{order_id}",
        "externalId": f"ext-{index}",
        "merchantId": "0f0e3e64-0c58-4e05-9d35-3f6a2a6a1c11",
        "status": "Open",
        "statusDesc": None,
        "createdAt": stamp(created),
        "updatedAt": None,
        "processedAt": None,
        "cancelledAt": None,
        "languageCode": "en",
        "currencyCode": "USD",
        "isTest": False,
        "isSample": False,
        "client": {"source": "api", "details": None, "version": "1", "ip": "192.0.2.1"},
        "meta": {"channel": "web"},
        "customerShippingMethod": "Expedited",
        "customerTotal": round(price * 1.4, 2),
        "customerItemTotal": round(price * 1.3, 2),
        "customerTotalShipping": 4.99,
        "customerTotalTaxes": 1.23,
        "customerTotalDiscountAndPromotions": 0,
        "customerPaymentMethods": [{"method": "card", "subMethod": "visa", "cardLast4": "4242"}],
    }
    missing = size - len(orjson.dumps(record)) - len(',"giftNote":""')
    if missing > 0:
        record["meta"]["giftNote"] = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=missing))
    return record


@lru_cache(maxsize=4096)
def page_of(query: str) -> tuple[int, int]:
    """Page number (from 1) and page size in a query, whatever the order of its parameters."""
    given = parse_qs(query)
    page = int(given.get("page", ["1"])[0])
    size = int(given.get("pageSize", [str(PAGE_SIZE)])[0])
    return max(page, 1), min(max(size, 1), LARGEST_PAGE)


Answer = tuple[bytes, bytes]


def answer(body: bytes, status: str = "200 OK") -> Answer:
    """The status line, and what follows the date."""
    head = f"Content-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}"
    return f"HTTP/1.1 {status}\r\n".encode(), head.encode() + b"\r\n\r\n" + body


@lru_cache(maxsize=1)
def date_line(second: int) -> bytes:
    """The header that HTTP asks of a server that has a clock."""
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode()


class Book:
    """All orders, rendered, and the answers already made from them.

    Args:
        orders: How many.
        size: Bytes of one order as compact JSON.
        seed: Same seed, same orders.
    """

    def __init__(self, orders: int, size: int, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        self._records = [orjson.dumps(order(index, self._rng, size)) for index in range(orders)]
        self._index = {orjson.loads(record)["id"]: at for at, record in enumerate(self._records)}
        self._pages: dict[tuple[int, int], Answer] = {}
        self._changes = 0

    def page(self, query: str) -> Answer:
        """The whole answer to a search, rendered the first time."""
        key = page_of(query)
        kept = self._pages.get(key)
        if kept is None:
            page, size = key
            rows = self._records[(page - 1) * size : page * size]
            tail = f'],"total":{len(self._records)},"page":{page},"pageSize":{size}}}'.encode()
            kept = answer(b'{"orders":[' + b",".join(rows) + tail)
            if len(self._pages) < 4096:
                self._pages[key] = kept
        return kept

    def one(self, order_id: str) -> Answer:
        """The whole answer to a read by id."""
        at = self._index.get(order_id)
        if at is None:
            return answer(b'{"errors":[{"errorMessage":"not found"}]}', "404 Not Found")
        return answer(b'{"order":' + self._records[at] + b"}")

    def change(self, count: int) -> Answer:
        """Change some orders; the answer holds their ids."""
        ids = []
        for at in self._rng.sample(range(len(self._records)), min(count, len(self._records))):
            self._changes += 1
            record = orjson.loads(self._records[at])
            record["status"] = STATUSES[(STATUSES.index(record["status"]) + 1) % len(STATUSES)]
            record["updatedAt"] = stamp(START + timedelta(days=200, milliseconds=self._changes))
            self._records[at] = orjson.dumps(record)
            ids.append(record["id"])
        self._pages.clear()
        return answer(orjson.dumps({"changed": ids}))


class Server(asyncio.Protocol):
    """One connection: HTTP/1.1, keep-alive, bodies by Content-Length."""

    latency = 0.0

    def __init__(self, book: Book) -> None:
        self._book = book
        self._pending = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is the protocol's
        """Forget the transport; answers still delayed go nowhere."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._pending += data
        while True:
            head, separator, rest = self._pending.partition(b"\r\n\r\n")
            if not separator:
                return
            length = 0
            if not head.startswith(b"GET "):
                lowered = head.lower()
                at = lowered.find(b"\r\ncontent-length:")
                if at >= 0:
                    length = int(lowered[at + 17 :].split(b"\r\n", 1)[0])
                if len(rest) < length:
                    return
            self._pending = rest[length:]
            method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            self._serve(method, target)

    def _serve(self, method: str, target: str) -> None:
        path, _, query = target.partition("?")
        if method == "GET" and path == "/order/v1/orders":
            self._write(self._book.page(query), Server.latency)
        elif method == "GET" and path.startswith("/order/v1/orders/"):
            self._write(self._book.one(path.rpartition("/")[2]), Server.latency)
        elif method == "POST" and path == "/user/v1/clients/token":
            token = {"accessToken": "bench-token", "tokenType": "Bearer", "expiresIn": 86400}
            self._write(answer(orjson.dumps(token)), 0)
        elif method == "POST" and path == "/_change":
            self._write(self._book.change(int(parse_qs(query).get("n", ["1"])[0])), 0)
        elif method == "POST" and path == "/_latency":
            Server.latency = float(parse_qs(query)["ms"][0]) / 1000
            self._write(answer(b"{}"), 0)
        else:
            self._write(answer(b'{"errors":[{"errorMessage":"no such path"}]}', "404 Not Found"), 0)

    def _write(self, response: Answer, latency: float) -> None:
        if latency:
            asyncio.get_running_loop().call_later(latency, self._write, response, 0)
        elif self._transport is not None:
            status, rest = response
            self._transport.writelines((status, date_line(int(time.time())), rest))


async def serve(orders: int, size: int, latency: float, *, watch_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    Server.latency = latency
    book = Book(orders, size)
    server = await loop.create_server(lambda: Server(book), "127.0.0.1", 0, backlog=512)
    port = server.sockets[0].getsockname()[1]
    line = {"url": f"http://127.0.0.1:{port}", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    print(json.dumps(line), flush=True)
    done = asyncio.Event()
    if watch_stdin:

        def wait() -> None:
            sys.stdin.buffer.read()
            loop.call_soon_threadsafe(done.set)

        threading.Thread(target=wait, daemon=True).start()
    await done.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.source", description=__doc__)
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=2_500, help="size of one order")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before each answer")
    parser.add_argument("--watch-stdin", action="store_true", help="end when standard input ends")
    given = parser.parse_args()
    uvloop.run(serve(given.orders, given.bytes, given.latency / 1000, watch_stdin=given.watch_stdin))


if __name__ == "__main__":
    main()
