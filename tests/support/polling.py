"""Polls: faults of the orders, a stop after so many pages, and what must hold after every complete poll."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from ordersync_consumer.envelope import Event
from tests.support.worker import Bench
from worker.sandbox import FaultRule


def fault(b: Bench, action: str, **fields: Any) -> None:
    """The orders go wrong like this, once unless told otherwise."""
    b.sandbox.faults.replace([FaultRule(action, operation="orders.search", **{"times": 1} | fields)])


async def check(b: Bench) -> list[Event]:
    """What must hold after every complete poll: nothing missed, nothing twice, no gaps."""
    events = await b.events()
    assert [each.sequence for each in events] == list(range(1, len(events) + 1))
    assert len({each.id for each in events}) == len(events)
    versions = Counter[str]()
    last: dict[str, bytes] = {}
    for each in events:
        versions[each.subject] += 1
        assert each.version == versions[each.subject]
        last[each.subject] = each.data
    readable = {}
    for key, raw in b.sandbox.store.truth().items():
        if key.startswith("odd"):
            continue
        readable[key] = json.loads(raw)
    assert {key: json.loads(last[key]) for key in readable} == readable
    return events


def after_pages(count: int) -> Callable[[], bool]:
    """A `stop` that says so behind that many pages. It is asked once before each page."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > count

    return stop
