"""`ordersync forward`: a receiver gets every event, in order, whatever it answers and whoever is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.commands import ordersync
from tests.support.consuming import Stage
from tests.support.generators import npm_tools, python_tools, ran, script
from tests.support.programs import Program
from tests.support.servers import free_port
from tests.support.tls import certificate
from tests.support.waiting import PATIENCE, eventually
from tests.support.webhooks import Answer, Request, WebhookReceiver, webhook_receiver
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio

SECRET, OLD_SECRET = "whsec_" + "bmV3" * 8, "whsec_" + "b2xk" * 8


@dataclass(slots=True)
class Shop:
    """A stream, a receiver, and `ordersync forward` between them for group g."""

    stage: Stage
    receiver: WebhookReceiver
    url: str
    folder: Path

    def once(self, *words: str, to: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """Forward to the end."""
        command = (
            "forward",
            "--group",
            "g",
            "--name",
            "c1",
            "--once",
            "--to",
            to or self.receiver.url,
            *words,
        )
        return ordersync(*command, cwd=self.folder, redis__url=self.url, **settings)

    def program(self, *words: str, name: str = "c1", to: str = "", **settings: str) -> Program:
        """Forward beside the test."""
        command = ("forward", "--group", "g", "--name", name, "--to", to or self.receiver.url, *words)
        return Program(
            self.folder, sys.executable, "-m", "worker.cli", *command, redis__url=self.url, **settings
        )


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    """A receiver that takes everything."""
    with webhook_receiver() as running:
        yield running


@pytest.fixture
async def shop(redis_url: str, tmp_path: Path, receiver: WebhookReceiver) -> AsyncIterator[Shop]:
    client = connect(redis_url)
    yield Shop(Stage(client), receiver, redis_url, tmp_path)
    await client.aclose()


def in_order(receiver: WebhookReceiver) -> bool:
    """Whether the events of each entity came in the order of their versions, but for repetitions."""
    newest: dict[str, int] = {}
    for event in receiver.taken:
        subject, version = event["subject"], int(event["version"])
        if version > newest.get(subject, 0) + 1:
            return False
        newest[subject] = max(newest.get(subject, 0), version)
    return True


# --- what is sent -------------------------------------------------------------------------------------------


async def test_a_request(shop: Shop) -> None:
    """One event, as the JSON of CloudEvents, with the record as it was served, and the signature of both secrets."""
    data = b'{"id": "a", "total": 10000000000000000000000.10}'
    await shop.stage.add("a", "b.c", data=data)
    done = shop.once("orders", forward__secret=f"{SECRET} {OLD_SECRET}")
    assert done.returncode == 0, done.stderr
    first, second = shop.receiver.requests
    assert first.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert first.headers["webhook-id"] == "order:a:1:00000000"
    assert second.headers["webhook-id"] == "order:b%2Ec:1:00000000"
    assert first.headers["user-agent"] == "ordermesh-sync"
    assert data in first.body
    assert first.events[0]["attempt"] == 1
    assert await shop.stage.pending() == {}
    assert SECRET not in done.stderr + done.stdout
    # The library of Standard Webhooks accepts it with each of the secrets, and with no other.
    verify = (
        "import json, sys\nfrom standardwebhooks.webhooks import Webhook, WebhookVerificationError\n"
        "given = json.load(sys.stdin)\nfor secret in given['secrets']:\n"
        "    try: print(Webhook(secret).verify(given['body'], given['headers'])['id'])\n"
        "    except WebhookVerificationError: print('refused')\n"
    )
    given = {
        "secrets": [SECRET, OLD_SECRET, "whsec_" + "YmFk" * 8],
        "body": first.body.decode(),
        "headers": first.headers,
    }
    said = ran(
        sys.executable, "-c", verify, cwd=shop.folder, given=json.dumps(given), PYTHONPATH=str(python_tools())
    )
    assert said.split() == ["order:a:1:00000000", "order:a:1:00000000", "refused"]


async def test_without_a_secret(shop: Shop) -> None:
    """Requests have no signature, which the log says; the id is there to remember."""
    await shop.stage.add("a")
    done = shop.once()
    assert '"forward_unsigned"' in done.stderr
    (request,) = shop.receiver.requests
    assert "webhook-signature" not in request.headers
    assert request.headers["webhook-id"] == "order:a:1:00000000"


async def test_batches(shop: Shop) -> None:
    """Lists of events; where one is refused each is sent by itself, and the others get through."""

    def answer(request: Request) -> Answer:
        return 422 if any(event["subject"] == "bad" for event in request.events) else 200

    shop.receiver.answer = answer
    await shop.stage.add("a", "bad", "b", "bad", "a")
    done = shop.once("--batch", "10", "--max-deliveries", "1")
    assert done.returncode == 0, done.stderr
    kinds = {request.headers["content-type"] for request in shop.receiver.requests}
    assert kinds == {"application/cloudevents-batch+json; charset=utf-8"}
    assert len(shop.receiver.requests[0].events) == 5
    assert Counter(shop.receiver.subjects()) == {"a1": 1, "b1": 1, "a2": 1}
    letters = await shop.stage.letters()
    assert [(letter.subject, letter.reason) for letter in letters] == [
        ("bad", "HTTP 422 Unprocessable Entity")
    ] * 2


READ_BATCH = """
import { readFileSync } from "node:fs";
import { HTTP } from "cloudevents";
const { headers, body } = JSON.parse(readFileSync(0));
const events = HTTP.toEvent({ headers, body });
events.forEach((event) => event.validate());
console.log(JSON.stringify(events.map((event) => [event.id, event.type, event.subject, event.sequence, event.data])));
"""


async def test_an_sdk_reads_a_batch(shop: Shop) -> None:
    """The SDK of npm takes a request as it is sent, headers and all, and finds each event of it."""
    await shop.stage.add("a", "b", "a")
    assert shop.once("--batch", "10").returncode == 0
    (request,) = shop.receiver.requests
    names = ("id", "type", "subject", "sequence", "data")
    sent = [[event[name] for name in names] for event in request.events]
    given = json.dumps({"headers": request.headers, "body": request.body.decode()})
    assert len(sent) == 3
    assert script(shop.folder, npm_tools(), READ_BATCH, given=given) == sent


async def test_parallel_requests(shop: Shop) -> None:
    """Several requests at a time, never two of one entity, and those of each in order."""
    busy: set[str] = set()
    both = threading.Barrier(2, timeout=PATIENCE)
    met: list[bool] = []

    def answer(request: Request) -> Answer:
        (event,) = request.events
        assert event["subject"] not in busy
        busy.add(event["subject"])
        if not met:
            both.wait()  # needs two at once
            met.append(True)
        busy.remove(event["subject"])
        return 202

    shop.receiver.answer = answer
    await shop.stage.add(*"aabbccaabbcc")
    assert shop.once("--parallel", "3").returncode == 0
    assert 2 <= shop.receiver.most <= 3
    assert len(shop.receiver.taken) == 12
    assert in_order(shop.receiver)


# --- what is answered ---------------------------------------------------------------------------------------


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


async def is_done(shop: Shop) -> bool:
    """Whether every event was acknowledged."""
    return await shop.stage.pending() == {}


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


async def test_certificates(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver whose certificate nobody has signed gets nothing; with its authority in SSL_CERT_FILE it does."""
    made = certificate(shop.folder, "IP:127.0.0.1")
    await shop.stage.add("a")
    with webhook_receiver(tls=made.server()) as receiver:
        done = shop.once(to=receiver.url)
        assert done.returncode == 1
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
        assert receiver.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
        assert shop.once(to=receiver.url).returncode == 0
        assert receiver.subjects() == ["a1"]


# --- the end ------------------------------------------------------------------------------------------------


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


async def test_wrong_use(shop: Shop) -> None:
    """What is wrong is said before anything is sent, and secrets are in no message."""
    for words, settings, said in (
        (("--to", "http://shop.example/in?token=words-of-ours"), {}, "--allow-http"),
        (("--allow-http",), {}, "--allow-http has no effect"),
        (("nothings",), {}, "Unknown resource"),
        ((), {"forward__secret": "words-of-ours"}, "must be whsec_ and 24 to 64 random bytes"),
    ):
        done = shop.once(*words, **settings)
        assert done.returncode == 2
        assert said in done.stderr
        assert "words-of-ours" not in done.stderr
    assert shop.receiver.requests == []
