"""State that earlier versions have written, one file for each key layout: `N.json` has the keys, byte for byte.

Commit 285c308 wrote layout 1, commit c53ace2 layout 2, commit 0ad3f4b layout 3; how: `python -m tests.support.layouts`.
Bytes are text in Latin-1.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.sandbox import SandboxServer

LAYOUTS = ("1", "2", "3")
"""The layouts that were recorded."""


def _raw(text: str) -> bytes:
    return text.encode("latin-1")


async def restore(redis: Any, layout: str) -> dict[str, list[dict[str, bytes]]]:
    """Write the keys of a layout; return the events of each order, as they were published, oldest first."""
    events: dict[str, list[dict[str, bytes]]] = {}
    recorded = json.loads(files(__package__).joinpath(f"{layout}.json").read_text())
    for key, item in recorded.items():
        value = item["value"]
        match item["type"]:
            case "string":
                await redis.set(key, _raw(value))
            case "hash":
                await redis.hset(key, mapping={_raw(name): _raw(text) for name, text in value.items()})
            case "list":
                await redis.rpush(key, *map(_raw, value))
            case "set":
                await redis.sadd(key, *map(_raw, value))
            case "zset":
                await redis.zadd(key, {_raw(name): score for name, score in value.items()})
            case "stream":
                for entry_id, flat in value:
                    fields = dict(zip(flat[::2], map(_raw, flat[1::2]), strict=True))
                    await redis.xadd(key, fields, id=entry_id)
                    if key.endswith(":stream:orders"):
                        events.setdefault(fields["subject"].decode(), []).append(fields)
            case other:
                raise AssertionError(other)
    return events


def serve(sandbox: SandboxServer, events: dict[str, list[dict[str, bytes]]]) -> None:
    """Let a sandbox serve the records as they were published last, and no others."""
    for identifier in list(sandbox.store.ids()):
        sandbox.store.delete(identifier)
    for identifier, own in events.items():
        sandbox.store.replace(identifier, own[-1]["data"])
