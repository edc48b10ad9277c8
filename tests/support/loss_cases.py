"""Gateways for the known ways to lose records, and what must hold after each: nothing missing, nothing twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.support.worker import Bench
from worker.sandbox import FaultRule, SandboxServer, ServedContract

GATEWAYS: dict[str, dict[str, Any]] = {
    "window": {"since_honoured": True, "choices_honoured": False},
    "window, sorted": {"since_honoured": True, "sort_honoured": True, "choices_honoured": False},
    "head": {"sort_honoured": True, "choices_honoured": False},
    "open": {},
    "sweep": {"choices_honoured": False},
}
"""A contract for each plan. Without a total, a fall of it cannot help."""
FAST = ["window", "window, sorted", "head"]


def server(plan: str, orders: int = 120, **contract: Any) -> SandboxServer:
    return SandboxServer(orders=orders, contract=ServedContract(**GATEWAYS[plan], **contract))


async def settled(b: Bench) -> int:
    """The first complete read is over, or the second where orders had just come or changed; the number of events."""
    run = await b.poll()
    if run.error_code == "unproven":
        run = await b.poll(complete=True)
    assert (run.outcome, run.plan) == ("complete", "sweep")
    return len(await b.events())


def drift(action: str, *, page: int, count: int = 1) -> FaultRule:
    """What happens to the orders before that page is served, once."""
    return FaultRule(action, operation="orders.search", page=page, count=count, times=1)


async def all_is_told(b: Bench) -> None:
    """The last event of each order is what OrderMesh has, and no version of one was published twice."""
    events = await b.events()
    told = {event.subject: event.data for event in events}
    truth = b.sandbox.store.truth()
    assert [each for each, raw in truth.items() if told.get(each) != raw] == []
    twice = Counter((event.subject, event.version) for event in events)
    assert [each for each, times in twice.items() if times > 1] == []
    contents = Counter((event.subject, event.data) for event in events)
    assert [each for each, times in contents.items() if times > 1] == []
