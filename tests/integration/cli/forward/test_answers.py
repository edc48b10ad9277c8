"""`ordersync forward`: whatever the receiver answers, it gets every event, in order."""

from __future__ import annotations

import signal
import threading
import time
from http.server import BaseHTTPRequestHandler

import pytest

from tests.support.forward_command import Shop, in_order, is_done
from tests.support.servers import free_port
from tests.support.waiting import eventually
from tests.support.webhooks import Answer, Request, webhook_receiver

pytestmark = pytest.mark.anyio


async def test_a_refused_event(shop: Shop) -> None:
    """It is tried again while later events of its entity wait, and becomes a dead letter; the others go on."""

    def answer(request: Request) -> Answer:
        (event,) = request.events
        return 500 if (event["subject"], event["version"]) == ("bad", "1") else 200

    shop.receiver.answer = answer
    await shop.stage.add("bad", "bad", "a", "b")
    done = shop.once("--max-deliveries", "2")
    assert done.returncode == 0, done.stderr
    (letter,) = await shop.stage.letters()
    assert (letter.subject, letter.reason, letter.group) == ("bad", "HTTP 500 Internal Server Error", "g")
    assert shop.receiver.subjects() == ["a1", "b1", "bad2"]
    sent = [event for request in shop.receiver.requests for event in request.events]
    assert [event["attempt"] for event in sent if event["subject"] == "bad"] == [1, 2, 1]


@pytest.mark.parametrize("status", [503, 404, 302])
async def test_a_receiver_that_takes_nothing(shop: Shop, status: int) -> None:
    """No event becomes a dead letter for it, however few attempts are permitted; with --once the command says so."""
    shop.receiver.answer = lambda _: (status, {"location": "http://127.0.0.1:9/elsewhere"})
    await shop.stage.add("a", "b")
    done = shop.once("--max-deliveries", "1")
    assert done.returncode == 1
    assert f"takes no events: HTTP {status}" in done.stderr
    assert len(shop.receiver.requests) == 1
    assert await shop.stage.letters() == []
    shop.receiver.answer = lambda _: 200
    assert shop.once().returncode == 0
    assert shop.receiver.subjects() == ["a1", "b1"]


async def test_a_receiver_that_fails_for_a_while(shop: Shop) -> None:
    """It gets all when it is back, in order, however few attempts are permitted; no letter is left."""
    down = threading.Event()
    down.set()
    shop.receiver.answer = lambda _: 503 if down.is_set() else 200
    await shop.stage.add(*"abcdefghijkl" * 2)
    with shop.program("--max-deliveries", "1", "--parallel", "4") as program:
        await program.logged("receiver_fails")
        assert len(shop.receiver.requests) >= 10
        down.clear()
        await eventually(lambda: len(shop.receiver.taken) == 24)
        await eventually(lambda: is_done(shop))
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0
    assert in_order(shop.receiver)
    assert await shop.stage.letters() == []


async def test_no_receiver(shop: Shop) -> None:
    """While nothing listens at the address events wait; it may come later."""
    port = free_port()
    await shop.stage.add("a", "a")
    with shop.program(to=f"http://127.0.0.1:{port}/events") as program:
        await program.logged("delivery_failed")
        with webhook_receiver(port) as receiver:
            await eventually(lambda: receiver.subjects() == ["a1", "a2"])
            await eventually(lambda: is_done(shop))
    assert await shop.stage.letters() == []


async def test_retry_after(shop: Shop) -> None:
    """The receiver is left alone for as long as it asks, and longer than without."""
    times: list[float] = []

    def answer(_: Request) -> Answer:
        times.append(time.monotonic())
        return (429, {"retry-after": "1"}) if len(times) == 1 else 200

    shop.receiver.answer = answer
    await shop.stage.add("a", "b")
    with shop.program():
        await eventually(lambda: len(shop.receiver.taken) == 2)
    assert times[1] - times[0] >= 1
    assert await shop.stage.letters() == []


async def test_a_receiver_that_is_gone(shop: Shop) -> None:
    """410 ends the command: the events stay in the group."""
    shop.receiver.answer = lambda _: 410
    await shop.stage.add("a")
    done = shop.once()
    assert done.returncode == 1
    assert "410 Gone" in done.stderr
    assert await shop.stage.letters() == []
    shop.receiver.answer = lambda _: 200
    assert shop.once().returncode == 0
    assert shop.receiver.subjects() == ["a1"]


def never(_: BaseHTTPRequestHandler) -> None:
    time.sleep(5)


def slow_head(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(40):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: y\r\n"[:1])
        handler.wfile.flush()
        time.sleep(0.1)


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 2")


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


@pytest.mark.parametrize("odd", [never, slow_head, hangs_up, nonsense])
async def test_an_answer_that_is_none(shop: Shop, odd: Answer) -> None:
    """Whatever comes instead of an answer, in time or not, the event is sent again."""
    shop.receiver.answer = lambda _: odd if len(shop.receiver.requests) < 1 else 200
    await shop.stage.add("a")
    assert shop.once("--timeout", "0.5").returncode == 1
    assert shop.once().returncode == 0
    assert [request.headers["webhook-id"] for request in shop.receiver.requests] == ["order:a:1:00000000"] * 2
    assert await shop.stage.letters() == []


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        handler.wfile.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")


def slow_body(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n")
    while True:
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)


@pytest.mark.parametrize("odd", [endless, slow_body])
async def test_a_body_without_end(shop: Shop, odd: Answer) -> None:
    """The event is taken when the status says so: nobody waits for the rest, and the next request gets through."""
    shop.receiver.answer = lambda _: odd if len(shop.receiver.requests) < 1 else 200
    await shop.stage.add("a", "b")
    done = shop.once()
    assert done.returncode == 0, done.stderr
    assert [request.events[0]["subject"] for request in shop.receiver.requests] == ["a", "b"]
    assert await shop.stage.pending() == {}


async def test_redirects_and_cookies(shop: Shop) -> None:
    """A redirect is not followed, and a cookie is not sent back."""
    with webhook_receiver() as other:
        shop.receiver.answer = lambda _: (307, {"location": other.url, "set-cookie": "a=b"})
        await shop.stage.add("a")
        assert ["HTTP 307 Temporary Redirect" in shop.once().stderr for _ in range(2)] == [True, True]
        assert other.requests == []
        assert len(shop.receiver.requests) == 2
    assert all("cookie" not in request.headers for request in shop.receiver.requests)
