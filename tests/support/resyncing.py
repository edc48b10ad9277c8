"""Resyncs: requested, and carried out slice by slice."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.support.worker import Bench
from worker.capture.registry import ORDERS
from worker.capture.resources import Resource
from worker.capture.resync.requests import Resync, ResyncRequest, ResyncState


async def ask(b: Bench, resource: Resource = ORDERS, **request: Any) -> str:
    wanted = ResyncRequest(resource=resource.name, **request)
    return (await b.account.resyncer.resyncs.create(wanted, b.services.clock.now())).id


async def work(b: Bench, name: str, resource: Resource = ORDERS) -> Resync:
    """Slices until it is over."""
    for _ in range(100):
        await b.account.resyncer.slice(resource, name)
        found = await b.account.resyncer.resyncs.get(name)
        assert found is not None
        if found.state in {ResyncState.DONE, ResyncState.CANCELLED}:
            return found
    raise AssertionError("it never ends")


async def found(b: Bench, name: str) -> Resync:
    resync_ = await b.account.resyncer.resyncs.get(name)
    assert resync_ is not None
    return resync_


async def versions(b: Bench) -> Counter[str]:
    return Counter(event.subject for event in await b.events())
