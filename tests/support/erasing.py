"""An order of a customer, with all that belongs to it, that `ordersync erase` erases."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.commands import ordersync
from tests.support.worker import Bench
from worker.capture.registry import CAPTURED
from worker.capture.state.run import Outcome
from worker.sandbox import CLIENT_ID, CLIENT_SECRET

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
