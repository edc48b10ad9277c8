"""The HTTP server of the gateway, in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from tests.support.gateway.history import History
from tests.support.gateway.lists import (
    NO_CONTENT,
    NOT_FOUND,
    Answer,
    audit_answer,
    kind_at,
    list_answer,
    number_of,
    single_answer,
    size_of,
)
from tests.support.gateway.serving import Fault, Faults, Serving
from tests.support.loop_thread import LoopThread, reset

LOGIN = "/user/v1/clients/token"
CLIENT_ID, CLIENT_SECRET = "campaign", "campaign-secret"


class Asked(NamedTuple):
    """One request.

    Attributes:
        at: When it came, in seconds since 1970.
        path: Its path.
        query: Its query.
        outcome: The status of the answer, or the fault that happened to it.

    """

    at: float
    path: str
    query: dict[str, str]
    outcome: str


class Gateway(LoopThread):
    """A gateway over HTTP on a port of loopback; a context manager.

    Args:
        seed: Seed of records and faults.
        serving: How lists are served.
        records: How many records of each kind there are at first, an hour old, such as `orders=200`.

    Attributes:
        history: What there is and was; `create`, `change`, `restore`, `delete`, `step_clock`.
        serving: How it is served. Each field may be changed at any time.
        faults: What goes wrong; `add` and `end`.
        asked: The requests, in order.
        watch: Called with the path of each request before it is answered; for what is to happen just then.
        first_asked: When the list of each kind was first asked for, in seconds since 1970.

    """

    def __init__(self, *, seed: int = 1, serving: Serving | None = None, **records: int) -> None:
        super().__init__("gateway")
        self.history = History(seed)
        self.serving = serving or Serving()
        self.faults = Faults(seed)
        self.asked: list[Asked] = []
        self.watch: Callable[[str], object] | None = None
        self.first_asked: dict[str, float] = {}
        self._tokens = 0
        self._valid_from = 0
        for kind, count in records.items():
            self.history.create(kind, count, at=time.time() - 3600 - count)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    # What a test asks of it

    def settings(self, redis_url: str, folder: Path, **more: str) -> dict[str, str]:
        """The settings of a worker at this gateway that polls the orders every second, for `Program`."""
        return {
            "api__base_url": self.url,
            "api__client_id": CLIENT_ID,
            "api__client_secret": CLIENT_SECRET,
            "api__requests_per_second": "1000",
            "redis__url": redis_url,
            "poll__intervals": '{"orders": 1}',
            "poll__confirm_deletes": "1",
            "reconcile__every": "0",
            "log__format": "json",
            "data_dir": str(folder),
            **more,
        }

    def revoke(self) -> None:
        """Let every token that was given out be invalid."""
        self._valid_from = self._tokens

    def count(self, path: str = "", since: float = 0.0) -> int:
        """How many requests there were with a path that matches, since a moment in seconds since 1970."""
        return sum(1 for each in list(self.asked) if each.at >= since and re.search(path, each.path))

    def outcomes(self) -> Counter[str]:
        """How many requests had each outcome."""
        return Counter(each.outcome for each in list(self.asked))

    # One connection

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        while await self._serve_one(reader, writer):
            await writer.drain()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False if the connection is to be closed."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"(?i)\r\ncontent-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        target = head.split(" ", 2)[1]
        path, _, text = target.partition("?")
        path, query = unquote(path), dict(parse_qsl(text, keep_blank_values=True))
        found = kind_at(path)
        is_list = found is not None and not found[1]
        page = number_of(query, self.serving) if is_list else None
        if is_list and found is not None:
            self.first_asked.setdefault(found[0].name, time.time())
        if self.watch is not None:
            self.watch(path)
        answer = self._answer(path, query, head)
        date = (f"Date: {formatdate(self.history.now(), usegmt=True)}",) if self.serving.dates else ()
        whole = _bytes(answer, date)
        fault = self.faults.one_for(path, page, size_of(query, self.serving) if is_list else 0, whole)
        outcome = fault.action if fault is not None and fault.action != "slow" else str(answer.status)
        self.asked.append(Asked(time.time(), path, query, outcome))
        if fault is None:
            writer.write(whole)
            return True
        return await self._spoil(
            fault, whole, found[0].wrapper if found else "items", reader=reader, writer=writer
        )

    async def _spoil(
        self,
        fault: Fault,
        whole: bytes,
        key: str,
        *,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        match fault.action:
            case "status":
                body = b'{"message":"made up"}' if fault.body is None else fault.body
                writer.write(_message(fault.code, body, fault.headers))
                return True
            case "garbage":
                writer.write(_message(200, fault.body or b"<html>made up</html>", fault.headers))
                return True
            case "empty":
                writer.write(_message(200, json.dumps({key: []}).encode(), fault.headers))
                return True
            case "truncate":
                writer.write(whole[: len(whole) - max(1, (len(whole) - whole.index(b"\r\n\r\n")) // 2)])
                await writer.drain()
            case "slow":
                await asyncio.sleep(fault.seconds)
                writer.write(whole)
                return True
            case "hang":
                await reader.read(1)  # until the client goes away
            case _:
                reset(writer)
        return False

    def _answer(self, path: str, query: dict[str, str], head: str) -> Answer:
        if path == LOGIN:
            self._tokens += 1
            return Answer(200, {"accessToken": f"campaign-token-{self._tokens}", "expiresIn": 86_400})
        token = re.search(r"(?i)\r\nauthorization: bearer campaign-token-(\d+)", head)
        if token is None or int(token[1]) <= self._valid_from:
            return Answer(401, {"message": "the token is not valid"})
        found = kind_at(path)
        if found is None:
            return NOT_FOUND
        kind, identifier, rest = found
        if not identifier:
            return list_answer(self.history, self.serving, kind, query)
        if rest:
            return audit_answer(self.history, self.serving, kind, identifier, query)
        return single_answer(self.history, self.serving, kind, identifier)


def _bytes(answer: Answer, headers: Iterable[str]) -> bytes:
    if answer == NO_CONTENT:
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    return _message(answer.status, json.dumps(answer.body, separators=(",", ":")).encode(), headers)


def _message(status: int, body: bytes, headers: Iterable[str]) -> bytes:
    lines = (
        f"HTTP/1.1 {status} So",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
