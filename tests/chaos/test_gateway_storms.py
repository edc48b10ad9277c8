"""A gateway that fails for a while, with every answer or with half of them: nothing missed, nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.campaign import settle, worker_at
from tests.support.gateway import Gateway, Judge
from tests.support.programs import Program

pytestmark = pytest.mark.anyio

DATA = "/orders"
STORMS: dict[str, dict[str, Any]] = {
    "503": {"action": "status", "code": 503},
    "500 without a body": {"action": "status", "code": 500, "body": b""},
    "502 with a page of HTML": {"action": "status", "code": 502, "body": b"<html>Bad Gateway</html>"},
    "429": {"action": "status", "code": 429, "headers": ("Retry-After: 1",)},
    "429 with a fraction": {"action": "status", "code": 429, "headers": ("Retry-After: 0.25",)},
    "401 for the data": {"action": "status", "code": 401, "path": DATA},
    "401 for the login": {"action": "status", "code": 401, "path": "/token"},
    "403 for a while": {"action": "status", "code": 403, "path": DATA},
    "404 for a while": {"action": "status", "code": 404, "path": DATA},
    "truncated": {"action": "truncate"},
    "reset": {"action": "reset"},
    "no answer": {"action": "hang"},
    "HTML with 200": {"action": "garbage"},
    "JSON that is no page": {"action": "garbage", "body": b'{"message":"maintenance"}', "path": DATA},
    "errors with 200": {
        "action": "garbage",
        "body": b'{"orders":[],"errors":[{"errorMessage":"Search index unavailable"}]}',
        "path": DATA,
    },
    "an empty list": {"action": "empty", "path": DATA},
    "204 for each page": {"action": "status", "code": 204, "body": b"", "path": DATA},
}
"""What happens to answers."""


@pytest.mark.parametrize("share", [1.0, 0.5], ids=["all", "half"])
@pytest.mark.parametrize("storm", STORMS)
async def test_a_storm(redis_url: str, storm: str, share: float) -> None:
    """Orders change, come and go while the gateway fails; when it is over, two or three full scans make up for it."""
    with Gateway(orders=230) as gateway, Judge(gateway, redis_url) as judge:
        history = gateway.history
        patience = 0.5 if STORMS[storm]["action"] == "hang" else 30.0
        async with worker_at(gateway, redis_url, page_size=50, timeout=patience) as worker:
            await settle(worker, judge)
            fault = gateway.faults.add(**STORMS[storm], probability=share)
            ids = history.ids("orders")
            for part in range(3):
                gateway.revoke()  # each poll has to log in again
                history.change("orders", ids[part * 40 : part * 40 + 7])
                history.create("orders", 2)
                history.delete("orders", [ids[part * 40 + 20]])
                await worker.poll(complete=part == 1)
                worker.clock.offset += 60
            assert fault.count > 0 or share < 1.0
            fault.end()
            await settle(worker, judge)
        assert judge.verdict().counts == {}


@pytest.mark.parametrize("storm", ["503", "truncated", "reset", "HTML with 200"])
async def test_a_storm_during_the_first_read(redis_url: str, storm: str) -> None:
    """What was there before is `snapshot`, what came meanwhile may be either, and nothing is told twice."""
    with Gateway(orders=330) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=30) as worker:
            await worker.account.client.tokens.get()
            fault = gateway.faults.add(**STORMS[storm], probability=0.5)
            for _ in range(4):
                gateway.history.create("orders", 1)
                await worker.poll()
            fault.end()
            await settle(worker, judge)
        assert judge.verdict().counts == {}


async def test_a_daemon_in_all_storms(redis_url: str, tmp_path: Any) -> None:
    """One storm after the other, half a second each, with tokens that are withdrawn."""
    with Gateway(orders=230) as gateway, Judge(gateway, redis_url) as judge:
        settings = gateway.settings(redis_url, tmp_path, api__timeout="1", api__page_size="50")
        with Program(tmp_path, **settings):
            await judge.recovered()
            for name in ("503", "no answer", "truncated", "401 for the data", "reset", "an empty list"):
                fault = gateway.faults.add(**STORMS[name], probability=0.7, last=0.7)
                gateway.revoke()
                history = gateway.history
                history.change("orders", history.ids("orders")[::20])
                history.create("orders", 1)
                await judge.recovered()
                fault.end()
        assert judge.verdict().counts == {}
