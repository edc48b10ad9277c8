"""State that earlier versions have written, one file for each key layout: `N.json` has the keys, byte for byte.

Commit 285c308 wrote layout 1, commit 80f94bb2 layout 2. Each read six orders of its sandbox (`--orders 6 --seed 7`)
with `ordersync run --once`, and again after three of them had changed (`POST /_sandbox/change?n=3`). Bytes are text in
Latin-1. Left out are the access token, and what depends on the address of the gateway.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

LAYOUTS = ("1", "2")
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
            case "stream":
                for entry_id, flat in value:
                    fields = dict(zip(flat[::2], map(_raw, flat[1::2]), strict=True))
                    await redis.xadd(key, fields, id=entry_id)
                    if key.endswith(":stream:orders"):
                        events.setdefault(fields["subject"].decode(), []).append(fields)
            case other:
                raise AssertionError(other)
    return events
