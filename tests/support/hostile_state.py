"""A Redis whose every word is hostile: what a record, a consumer, a gateway or a neighbour could have written."""

from __future__ import annotations

import json

import redis

from tests.support.hostile import TEXTS
from tests.support.streams import KEYS, fields_of
from worker.clock import rfc3339
from worker.keys import KeySpace

HOSTILE = "".join(text.encode("utf-8", "ignore").decode() for text in TEXTS)
"""All of it that UTF-8 can say."""
HALF = "half\ud83d".encode("utf-8", "surrogatepass")

FACTORS = (104_729, 1_299_709)
"""Two primes, whose product is in no time, port, count or id that a page shows by chance."""
MARKUP = (
    "\"'><script>document.title='owned'</script><img src=x onerror=alert(1)>"
    f"{{{{{FACTORS[0]}*{FACTORS[1]}}}}}</svg>"
)
"""What a browser would obey, in text, in an attribute or in a template."""


def fill(url: str, text: str = HOSTILE) -> None:
    """Write a hostile text wherever another program, a gateway or a user may have written."""
    run = {
        "run_id": "abcd",
        "resource": "orders",
        "plan": text,
        "outcome": "failed",
        "error": text,
        "records": "1",
    }
    now = 1_767_225_600.0
    pause = {"resource": "shipments", "reason": text, "by": text, "at": 1}
    with redis.Redis.from_url(url) as client:
        client.sadd(KeySpace().accounts, "default")
        event = fields_of(1, json.dumps({"id": text}, ensure_ascii=False).encode())
        event |= {
            "subject": text,
            "changed": text.replace(",", ""),
            "action": text,
            "reason": text,
        }
        client.xadd(KEYS.stream("orders"), event)
        client.xgroup_create(KEYS.stream("orders"), text, id="0")
        client.xreadgroup(text, text, {KEYS.stream("orders"): ">"}, count=1)
        letter = dict.fromkeys(("reason", "subject", "where", "group", "consumer", "trace", "data"), text)
        client.xadd(KEYS.dead("orders"), {**letter, "kind": "record", "time": rfc3339(now)}, id="1-1")
        client.xadd(KEYS.dead("orders"), {**letter, "reason": HALF, "kind": "record", "time": text}, id="1-2")
        client.xadd(KEYS.runs, {**run, text: text})
        client.xadd(KEYS.runs, {**run, "run_id": HALF})
        client.hset(KEYS.paused, "shipments", json.dumps(pause))
        client.hset(
            KEYS.cursor("orders"), mapping={"last_started": str(now), "last_error": text, "failures": "3"}
        )
        client.hset(KEYS.reconcile("orders"), mapping={"off": text, "error": text})
        client.hset(KEYS.gaps("orders"), text, json.dumps({"why": text, "at": 1}))
        client.hset(
            KEYS.resync("aa"),
            mapping={
                "request": json.dumps({"resource": "orders", "ids": [text], "by": text}),
                "resource": "orders", "state": "waiting", "error": text, "at": "1",
            },
        )  # fmt: skip
        client.zadd(KEYS.resyncs, {"aa": 1})
        client.sadd(KEYS.open_resyncs, "aa")
        client.zadd(KEYS.workers, {text: now * 10})
        client.set(
            KEYS.worker(text),
            json.dumps({"worker": text, "started_at": 1, "at": 1, "clock_offset": 99}),
        )
        client.hset(KEYS.contract, "orders", text)
        client.xadd(KEYS.operator_log, {"by": text, "command": text, "outcome": HALF})
