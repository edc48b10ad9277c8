"""A gateway that repeats every secret: none is kept in Redis, shown by a command, or written into the log."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.commands import ordersync
from tests.support.echoing_gateway import ACCESS, CLIENT_SECRET, HEADER, SECRETS, EchoingGateway, leaks
from tests.support.streams import KEYS, fields_of
from worker.keys import KeySpace
from worker.telemetry import tracing
from worker.telemetry.log import redaction

COMMANDS = (
    ("doctor", "--json"),
    ("run", "--once"),
    ("resync", "orders", "--id", "a", "--dry-run"),
    ("timeline", "a"),
    ("contract", "probe", "--kept", "--json"),
    ("status",),
    ("status", "--json"),
    ("runs",),
    ("runs", "--json"),
    ("dead", "list", "--json"),
    ("coverage", "--json"),
    ("resyncs", "--json"),
    ("config", "show", "--json"),
)


def everything(client: Any) -> Iterator[tuple[str, str]]:
    """Yield every key with all that is under it, except the token, which has to be there."""
    readers: dict[str, Callable[[bytes], Any]] = {
        "string": client.get,
        "hash": client.hgetall,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": client.xrange,
    }
    for key in client.scan_iter():
        if key.decode() != KEYS.token:
            yield key.decode(), _text([key, readers[client.type(key).decode()](key)])


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace") + " "
    if isinstance(value, dict):
        return _text([item for pair in value.items() for item in pair])
    if isinstance(value, list | tuple | set):
        return "".join(map(_text, value))
    return f"{value} "


def settings(url: str, redis_url: str, folder: Path) -> dict[str, str]:
    """The settings of a worker at the gateway."""
    return {
        "api__base_url": url, "api__client_id": "client", "api__client_secret": CLIENT_SECRET,
        "api__headers": json.dumps({"X-Api-Key": HEADER}), "api__attempts": "1", "api__requests_per_second": "1000",
        "redis__url": redis_url, "poll__intervals": '{"orders": 1}', "data_dir": str(folder), "log__level": "debug",
    }  # fmt: skip


@pytest.mark.parametrize("way", EchoingGateway.WAYS)
def test_no_answer_of_a_gateway_gives_a_secret_away(way: str, redis_url: str, tmp_path: Path) -> None:
    """Whatever part of an answer holds them, in whatever form, and wherever a text is cut."""
    with redis.Redis.from_url(redis_url) as client, EchoingGateway(way, padding=175) as gateway:
        client.sadd(KeySpace().accounts, "default")
        known = settings(gateway.url, redis_url, tmp_path)
        shown = [ordersync(*words, cwd=tmp_path, **known) for words in COMMANDS]
        assert all("Traceback" not in done.stderr for done in shown)
        assert any("status" in done.stdout + done.stderr or "response" in done.stdout for done in shown)
        found = {done.args[1:]: leaks(done.stdout) | leaks(done.stderr) for done in shown}
        found |= {(key,): leaks(text) for key, text in everything(client)}
        assert {where: what for where, what in found.items() if what} == {}


def test_no_command_that_consumes_gives_a_secret_away(redis_url: str, tmp_path: Path) -> None:
    """What a COMMAND prints, its reason in the dead letter, and an entry that is not an event."""
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(KeySpace().accounts, "default")
        client.xadd(KEYS.stream("orders"), fields_of(1))
        script = f"import sys; sys.stderr.write({(' '.join(['y' * 380, *SECRETS]))!r}); sys.exit(1)"
        known = settings("http://127.0.0.1:1", redis_url, tmp_path) | {"api__client_secret": CLIENT_SECRET}
        words = (
            "consume",
            "orders",
            "--group",
            "g",
            "--max-deliveries",
            "1",
            "--once",
            "--",
            sys.executable,
            "-c",
            script,
        )
        ordersync(*words, cwd=tmp_path, **known)
        letters = client.xrange(KEYS.dead("orders"))
        assert letters
        kept = _text(letters)
        assert not {
            item
            for item in (CLIENT_SECRET, HEADER, "jane.doe@example.com", CLIENT_SECRET[:12])
            if item in kept
        }


def test_no_span_gives_a_secret_away() -> None:
    """The error of a span, as traces export it."""
    redaction.add_passing(ACCESS)
    seen: list[tracing.Span] = []
    with tracing.watching(seen.append), pytest.raises(ValueError, match="y"), tracing.span("poll"):
        raise ValueError("y" * 480 + f" {ACCESS} {ACCESS}")
    assert not leaks(seen[0].error)
