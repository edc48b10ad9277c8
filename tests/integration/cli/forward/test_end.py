"""`ordersync forward`: whoever is killed or stopped, the receiver gets every event, in order."""

from __future__ import annotations

import signal
import threading
import time
from functools import partial

import pytest

from tests.support.forward_command import Shop, in_order
from tests.support.waiting import PATIENCE, eventually
from tests.support.webhooks import Answer, Request

pytestmark = pytest.mark.anyio


async def test_killed_in_the_middle(shop: Shop) -> None:
    """Forwarders are killed while requests run: the receiver gets every event, with one id each, in order."""

    def answer(_: Request) -> Answer:
        time.sleep(0.02)
        return 200

    shop.receiver.answer = answer
    await shop.stage.add(*"abcdefgh" * 6)
    for _ in range(2):
        least = len(shop.receiver.requests) + 10
        with shop.program("--parallel", "3") as program:
            await eventually(partial(lambda least: len(shop.receiver.requests) >= least, least))
            program.process.kill()
            await program.ended()
    await eventually(lambda: shop.receiver.now == 0)
    done = shop.once("--parallel", "3")
    assert done.returncode == 0, done.stderr
    # What a receiver does that remembers ids: each effect once.
    effects = {request.headers["webhook-id"] for request in shop.receiver.requests}
    assert len(effects) == 48
    assert len(shop.receiver.taken) <= 48 + 2 * 3
    assert in_order(shop.receiver)
    assert await shop.stage.pending() == {}


async def test_sigterm(shop: Shop) -> None:
    """The running request finishes and counts; what was fetched beyond it is given back, and is not sent."""
    going, go = threading.Event(), threading.Event()

    def answer(_: Request) -> Answer:
        going.set()
        go.wait(PATIENCE)
        return 200

    shop.receiver.answer = answer
    await shop.stage.add("a", "b", "c")
    with shop.program() as program:
        await eventually(going.is_set)
        program.process.send_signal(signal.SIGTERM)
        await program.logged("consume_ending")
        go.set()
        assert await program.ended() == 0
    assert shop.receiver.subjects() == ["a1"]
    assert shop.once().returncode == 0
    assert shop.receiver.subjects() == ["a1", "b1", "c1"]
