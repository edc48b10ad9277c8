"""`ordersync forward`: what is sent, by how many at a time, to whom, and with which signature."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter

import pytest

from tests.support.forward_command import Shop, in_order
from tests.support.generators import npm_tools, python_tools, ran, script
from tests.support.tls import certificate
from tests.support.waiting import PATIENCE
from tests.support.webhooks import Answer, Request, webhook_receiver

pytestmark = pytest.mark.anyio


SECRET, OLD_SECRET = "whsec_" + "bmV3" * 8, "whsec_" + "b2xk" * 8


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
