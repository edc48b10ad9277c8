"""Writes against a gateway that fails: what is sent again, what is not, and an order that is created once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from tests.support.scripted_server import Lab, OwnClock, at_work, count, http, lab, lab_account, script
from tests.support.worker import account_for
from worker.errors import (
    ApiError,
    Conflict,
    Forbidden,
    GatewayUnreachable,
    NotFound,
    OutcomeUnknown,
    PropertyError,
    RateLimited,
    ServerError,
)
from worker.ordermesh.bodies import BaseAddressModel, CreateOrderItemModel, CreateOrderModel
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http.shared import SharedHttp
from worker.ordermesh.http.usage import Usage
from worker.ordermesh.services.once import LOOKUP_DELAYS
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

CREATE_PATH = "/order/v1/orders"
FIND_PATH = "/order/v1/orders/safeId/s-1"
TOKEN_PATH = "/user/v1/clients/token"
ORDER = {"safeId": "s-1", "items": []}
MADE = http(b'{"order":{"id":"o1","safeId":"s-1"}}', status="201 Created")
FOUND = http(b'{"order":{"id":"o1","safeId":"s-1"}}')
DROPPED = b""
"""The connection is closed without an answer."""
CUT = b'HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n{"order":'
WRITES = [each for each in OPERATIONS.values() if each.writes]
UNSAFE = [each.key for each in WRITES if each.method in {"POST", "PATCH"}]
SAFE = [each.key for each in WRITES if each.method in {"PUT", "DELETE"}]


def refused(status: int, *headers: str, body: bytes = b"{}") -> bytes:
    return http(body, *headers, status=f"{status} Refused")


@pytest.fixture
async def served() -> AsyncIterator[Lab]:
    """A scripted gateway at which one can log in; every login gives another token."""
    async with lab() as running:
        running.handlers[TOKEN_PATH] = script(
            [http(b'{"accessToken":"lab-token-%d","expiresIn":3600}' % number) for number in range(9)]
        )
        yield running


# What is sent again


@pytest.mark.parametrize(
    "answer",
    [DROPPED, CUT, refused(502), refused(504), refused(408), b"SSH-2.0-OpenSSH_9.6\r\n\r\n"],
    ids=["dropped", "cut short", "502", "504", "408", "not HTTP"],
)
async def test_a_lost_answer(redis_url: str, served: Lab, answer: bytes) -> None:
    """Where the answer to a write is lost it is not sent again, and the error says that it may have been done."""
    served.handlers[CREATE_PATH] = script([answer, MADE])
    async with at_work(lab_account(served), redis_url) as desk:
        with pytest.raises(
            OutcomeUnknown, match=r"orders\.create: the request was sent.*by its safe id"
        ) as caught:
            await desk.client.orders.create(ORDER)
    assert (caught.value.operation, caught.value.code) == ("orders.create", "outcome_unknown")
    assert count(served, CREATE_PATH, "POST") == 1


async def test_no_answer_in_time(redis_url: str, served: Lab) -> None:
    """A write that is not answered in time may have been done as well."""
    served.handlers[CREATE_PATH] = served.held
    async with at_work(lab_account(served, timeout=1), redis_url) as desk:
        with pytest.raises(OutcomeUnknown, match="ReadTimeout"):
            await desk.client.orders.create(ORDER)
        served.release.set()
    assert count(served, CREATE_PATH, "POST") == 1


@pytest.mark.parametrize("key", UNSAFE)
async def test_no_unsafe_write_is_sent_twice(redis_url: str, served: Lab, key: str) -> None:
    """The rule holds for every POST and PATCH of the table that writes."""
    path = dict.fromkeys(OPERATIONS[key].path_parameters, "x")
    async with at_work(lab_account(served), redis_url) as desk:
        served.handlers[desk.client.profile.path(key, path)] = script([DROPPED, http()])
        with pytest.raises(OutcomeUnknown):
            await desk.client.call(key, path=path, body={})
        assert count(served, desk.client.profile.path(key, path)) == 1


@pytest.mark.parametrize("key", SAFE)
async def test_what_may_be_done_twice_is_sent_again(redis_url: str, served: Lab, key: str) -> None:
    """A replacement and a deletion leave the same behind however often they are done."""
    path = dict.fromkeys(OPERATIONS[key].path_parameters, "x")
    async with at_work(lab_account(served), redis_url) as desk:
        served.handlers[desk.client.profile.path(key, path)] = script([DROPPED, refused(502), http()])
        await desk.client.call(key, path=path, body={})
        assert count(served, desk.client.profile.path(key, path)) == 3


async def test_a_search_by_post_is_sent_again(redis_url: str, served: Lab) -> None:
    """It is no write."""
    key = "merchant_catalogs.search_effective_variants"
    served.handlers[OPERATIONS[key].path] = script(
        [DROPPED, refused(500), http(b'{"variants":[{"sku":"a"}]}')]
    )
    async with at_work(lab_account(served), redis_url) as desk:
        found = await desk.client.merchant_catalogs.search_effective_variants()
    assert found.values == [{"sku": "a"}]
    assert sum(b"POST " + OPERATIONS[key].path.encode() in head for head in served.seen) == 3


@pytest.mark.parametrize("status", [500, 501, 503])
async def test_a_server_that_fails(redis_url: str, served: Lab, status: int) -> None:
    """Who knows how far it came: the write is not sent again, and the error is the server's."""
    served.handlers[CREATE_PATH] = script([refused(status, body=b'{"message":"oops"}'), MADE])
    async with at_work(lab_account(served), redis_url) as desk:
        with pytest.raises(ServerError, match=f"status {status}: oops"):
            await desk.client.orders.create(ORDER)
    assert count(served, CREATE_PATH, "POST") == 1


async def test_a_server_that_is_busy(redis_url: str, served: Lab) -> None:
    """Too many requests: the server has not begun, so the write is sent again after the pause it asks for."""
    clock, usage = OwnClock(chance=0.0), Usage()
    served.handlers[CREATE_PATH] = script([refused(429, "Retry-After: 7"), refused(429), MADE])
    async with at_work(lab_account(served), redis_url, clock) as desk:
        reply = await desk.client.call("orders.create", body=ORDER, usage=usage)
    assert (reply.status, reply.fields["id"]) == (201, "o1")
    assert clock.slept == [7, 0]
    assert count(served, CREATE_PATH, "POST") == usage.requests == 3
    assert served.bodies[-3:] == [json.dumps(ORDER, separators=(",", ":")).encode()] * 3


async def test_a_server_that_stays_busy(redis_url: str, served: Lab) -> None:
    """After all tries it is too busy."""
    served.handlers[CREATE_PATH] = script([refused(429)])
    async with at_work(lab_account(served), redis_url) as desk:
        with pytest.raises(RateLimited):
            await desk.client.orders.create(ORDER)
    assert count(served, CREATE_PATH, "POST") == 3


async def test_a_token_that_has_ended(redis_url: str, served: Lab) -> None:
    """A refused token is renewed and the write sent once more: a server that does not know us does nothing."""
    served.handlers[CREATE_PATH] = script([refused(401), MADE])
    async with at_work(lab_account(served), redis_url) as desk:
        assert (await desk.client.orders.create(ORDER)).fields["id"] == "o1"
    tokens = [
        next(line for line in head.split(b"\r\n") if line.lower().startswith(b"authorization"))
        for head in served.seen
        if f" {CREATE_PATH} ".encode() in head
    ]
    assert [token.rpartition(b" ")[2] for token in tokens] == [b"lab-token-0", b"lab-token-1"]


async def test_no_connection(redis_url: str) -> None:
    """Where nobody listens nothing was begun: it is tried as often as a read, and nothing is unknown."""
    running, usage = lab(), Usage()
    served = await running.__aenter__()
    served.answers[TOKEN_PATH] = http(b'{"accessToken":"lab-token","expiresIn":3600}')
    async with at_work(lab_account(served), redis_url) as desk:
        await desk.client.tokens.get()
        await running.__aexit__(None, None, None)
        with pytest.raises(GatewayUnreachable):
            await desk.client.call("orders.create", body=ORDER, usage=usage)
    assert usage.requests == 3
    assert count(served, CREATE_PATH) == 0


async def test_logins_by_key_go_unsigned(redis_url: str, served: Lab) -> None:
    """A login needs no token, by whatever way it is called."""
    async with at_work(lab_account(served), redis_url) as desk:
        reply = await desk.client.call("clients.token", body={"clientId": "a", "clientSecret": "b"})
        assert reply.value["accessToken"] == "lab-token-0"
        await desk.client.clients.token("a", "b")
        served.answers["/user/v1/login"] = http(b'{"accessToken":"u"}')
        await desk.client.users.login("sam", "secret-word", source="shell")
    assert len(served.seen) == 3
    assert not any(b"authorization" in head.lower() for head in served.seen)
    assert served.seen[-1].startswith(b"POST /user/v1/login?source=shell ")
    assert json.loads(served.bodies[-1]) == {"username": "sam", "password": "secret-word"}


# What errors say


@pytest.mark.parametrize(
    ("status", "expected", "code"),
    [
        (400, ApiError, "api_error"),
        (403, Forbidden, "forbidden"),
        (404, NotFound, "not_found"),
        (409, Conflict, "conflict"),
        (422, ApiError, "api_error"),
        (500, ServerError, "server_error"),
    ],
)
async def test_what_a_refusal_holds(
    redis_url: str, served: Lab, status: int, expected: type[ApiError], code: str
) -> None:
    """Status, code, the server's words, what is wrong with which property, and the id of the request."""
    body = {
        "message": "One or more errors.",
        "errors": [
            {"errorMessage": "must not be empty", "propertyName": "sku", "attemptedValue": "joe@example.com"},
            {"errorMessage": "must be positive", "propertyName": "quantity", "attemptedValue": -1},
        ],
    }
    served.answers[CREATE_PATH] = refused(status, "X-Request-Id: r-1", body=json.dumps(body).encode())
    async with at_work(lab_account(served), redis_url) as desk:
        with pytest.raises(expected) as caught:
            await desk.client.orders.create(ORDER)
    error = caught.value
    assert type(error) is expected
    assert (error.operation, error.status, error.code) == ("orders.create", status, code)
    assert (error.text, error.request_id) == ("One or more errors.", "r-1")
    assert error.properties == (
        PropertyError("must not be empty", "sku"),
        PropertyError("must be positive", "quantity"),
    )
    assert "joe" not in str(error)


@pytest.mark.parametrize("name", ["requestId", "traceId", "correlationId"])
async def test_request_id_in_the_body(redis_url: str, served: Lab, name: str) -> None:
    """Where no header tells it, the body may; a header wins."""
    body = json.dumps({"title": "Bad", name: "b-1"}).encode()
    served.handlers[CREATE_PATH] = script(
        [refused(400, body=body), refused(400, "X-Azure-Ref: h-1", body=body), refused(400, body=b"[]")]
    )
    told = []
    async with at_work(lab_account(served), redis_url) as desk:
        for _ in range(3):
            with pytest.raises(ApiError) as caught:
                await desk.client.orders.create(ORDER)
            told.append(caught.value.request_id)
    assert told == ["b-1", "h-1", None]


# An order that is created once


async def once(served: Lab, redis_url: str, sent: Sequence[bytes], found: Sequence[bytes]) -> Any:
    """Create an order once while the gateway gives these answers; what came out, and the waiting."""
    served.handlers[CREATE_PATH], served.handlers[FIND_PATH] = script(sent), script(found)
    clock = OwnClock(chance=0.0)
    async with at_work(lab_account(served), redis_url, clock) as desk:
        try:
            return await desk.client.orders.create_once(ORDER), [each for each in clock.slept if each]
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error, [each for each in clock.slept if each]


async def test_created(redis_url: str, served: Lab) -> None:
    """A good answer is all there is to it."""
    placed, slept = await once(served, redis_url, [MADE], [FOUND])
    assert (placed.created, placed.reply.fields["id"], slept) == (True, "o1", [])
    assert (count(served, CREATE_PATH), count(served, FIND_PATH)) == (1, 0)


@pytest.mark.parametrize(
    "answer", [refused(409), DROPPED, refused(504), refused(500)], ids=["409", "dropped", "504", "500"]
)
async def test_found(redis_url: str, served: Lab, answer: bytes) -> None:
    """A conflict, a lost answer or a failure, and there it is: it is given back and not sent again."""
    placed, slept = await once(served, redis_url, [answer, MADE], [FOUND])
    assert (placed.created, placed.reply.fields["id"], slept) == (False, "o1", [])
    assert (count(served, CREATE_PATH), count(served, FIND_PATH)) == (1, 1)


async def test_found_later(redis_url: str, served: Lab) -> None:
    """A gateway that gave up may have a service behind it that works on: it is looked for more than once."""
    placed, slept = await once(served, redis_url, [refused(504), MADE], [refused(404), refused(404), FOUND])
    assert (placed.created, slept) == (False, [each for each in LOOKUP_DELAYS if each])
    assert (count(served, CREATE_PATH), count(served, FIND_PATH)) == (1, 3)


@pytest.mark.parametrize("answer", [DROPPED, refused(502), refused(500)], ids=["dropped", "502", "500"])
async def test_never_sent_again(redis_url: str, served: Lab, answer: bytes) -> None:
    """That it is not found proves nothing: its path may be another one, or the service may work on."""
    error, slept = await once(served, redis_url, [answer, MADE], [refused(404)])
    assert type(error) is OutcomeUnknown
    assert "no order was found by its safe id" in str(error)
    assert slept == [each for each in LOOKUP_DELAYS if each]
    assert (count(served, CREATE_PATH), count(served, FIND_PATH)) == (1, len(LOOKUP_DELAYS))


async def test_a_conflict_over_something_else(redis_url: str, served: Lab) -> None:
    """A conflict without such an order stays a conflict, and is not answered by sending again."""
    error, _ = await once(served, redis_url, [refused(409)], [refused(404)])
    assert type(error) is Conflict
    assert count(served, CREATE_PATH) == 1


@pytest.mark.parametrize(
    "found",
    [refused(503), refused(403), http(b"<html>"), http(b'{"order":{"id":"o2","safeId":"another"}}')],
    ids=["503", "403", "a web page", "another order"],
)
async def test_it_cannot_be_looked_for(redis_url: str, served: Lab, found: bytes) -> None:
    """Unless it is certain that there is none it is not sent again: what is known is told."""
    error, _ = await once(served, redis_url, [DROPPED, MADE], [found])
    assert type(error) is OutcomeUnknown
    assert "the search by its safe id failed: orders.get_by_safe_id" in str(error)
    assert count(served, CREATE_PATH) == 1


async def test_a_conflict_and_it_cannot_be_looked_for(redis_url: str, served: Lab) -> None:
    """The conflict is what is known."""
    error, _ = await once(served, redis_url, [refused(409)], [refused(403)])
    assert type(error) is Conflict
    assert count(served, CREATE_PATH) == 1


async def test_refused(redis_url: str, served: Lab) -> None:
    """A plain refusal is one."""
    error, _ = await once(served, redis_url, [refused(400)], [FOUND])
    assert type(error) is ApiError
    assert (count(served, CREATE_PATH), count(served, FIND_PATH)) == (1, 0)


@pytest.mark.parametrize("order", [{}, {"safeId": ""}, {"safeId": None}, {"safeId": 7}], ids=str)
async def test_without_a_safe_id(redis_url: str, served: Lab, order: dict[str, Any]) -> None:
    """Nothing is sent that could not be found again."""
    async with at_work(lab_account(served), redis_url) as desk:
        with pytest.raises(ValueError, match="safeId of your own"):
            await desk.client.orders.create_once(order)
    assert served.seen == []


class Forgetful(SharedHttp):
    """Sends everything, and loses the first `lost` answers to a creation on their way back."""

    lost = 0

    async def send(
        self, method: str, url: str, *, headers: dict[str, str], content: bytes | None = None
    ) -> httpx.Response:
        """Send it."""
        response = await super().send(method, url, headers=headers, content=content)
        if method == "POST" and url.endswith(CREATE_PATH) and self.lost:
            self.lost -= 1
            raise httpx.RemoteProtocolError("the connection was closed")
        return response


async def test_lost_answers_at_the_sandbox(redis_url: str, sandbox: SandboxServer) -> None:
    """Whatever gets lost: one order in the end, the same as was sent."""
    order = CreateOrderModel(
        items=[CreateOrderItemModel(sku="MUG-11OZ-WHT", quantity=1)],
        shipping_address=BaseAddressModel(first_name="Ada", city="Springfield", country_code="US"),
        safe_id="once-1",
        external_id="SHOP-once",
    )
    before = len(sandbox.store)
    async with at_work(account_for(sandbox), redis_url) as desk:
        desk.client._sender.http.__class__ = Forgetful
        desk.client._sender.http.lost = 1  # type: ignore[attr-defined]
        placed = await desk.client.orders.create_once(order)
        again = await desk.client.orders.create_once(order)
    assert (placed.created, again.created) == (False, False)
    assert placed.reply.fields["externalId"] == "SHOP-once"
    assert placed.reply.fields["id"] == again.reply.fields["id"]
    assert len(sandbox.store) == before + 1
    assert sandbox.requests.count("orders.create") == 2
