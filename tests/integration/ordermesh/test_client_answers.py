"""Answers that are odd, too long, compressed, or errors: what the client reads of them, and what an error says."""

from __future__ import annotations

import gzip
import json

import httpx
import pytest

from tests.support.order_search import SEARCH, fault
from tests.support.scripted_server import Lab, at_work, http, lab_account, script
from tests.support.worker import account_for
from worker.errors import ApiError, Forbidden, PropertyError, ResponseTooLarge, UnreadableAnswer
from worker.ordermesh.http import refusals
from worker.ordermesh.http.pages import split
from worker.ordermesh.http.usage import Usage
from worker.sandbox import SandboxServer, ServedContract

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("status", ["204 No Content", "200 OK"])
async def test_an_empty_body_is_an_empty_page(redis_url: str, served: Lab, status: str) -> None:
    """With the status 204 at once; with another one, which may be a fault, when the gateway says so twice."""
    full = http(b'{"orders":[{"id":"1"}]}')
    async with at_work(lab_account(served), redis_url) as desk:
        served.answers["/order/v1/orders"] = http(b"", status=status)
        assert await desk.client.read_page(SEARCH, 3, 10, Usage()) == b""
        assert sum(b" /order/v1/orders?" in head for head in served.seen) == (
            1 if status.startswith("204") else 2
        )
        served.handlers["/order/v1/orders"] = script([http(b"", status="200 OK"), full])
        assert b'"id":"1"' in await desk.client.read_page(SEARCH, 3, 10, Usage())


async def test_a_byte_order_mark(redis_url: str, served: Lab) -> None:
    """In the login, in a list and in an error, JSON with a byte order mark is read."""
    mark = b"\xef\xbb\xbf"
    served.answers["/user/v1/clients/token"] = http(mark + b'{"accessToken":"made-up","expiresIn":"24h"}')
    served.answers["/order/v1/orders"] = http(mark + b'{"orders":[]}')
    async with at_work(lab_account(served), redis_url) as desk:
        assert await desk.client.read_page(SEARCH, 0, 10, Usage()) == b'{"orders":[]}'
        served.answers["/order/v1/orders"] = http(mark + b'{"message":"not now"}', status="400 Bad")
        with pytest.raises(ApiError, match="not now"):
            await desk.client.read_page(SEARCH, 0, 10, Usage())


async def test_x_gzip(redis_url: str, served: Lab) -> None:
    """An old name of gzip; a coding that the worker has not asked for and does not know is named."""
    packed = gzip.compress(b'{"orders":[]}', mtime=0)
    async with at_work(lab_account(served), redis_url) as desk:
        served.answers["/order/v1/orders"] = http(packed, "Content-Encoding: x-gzip")
        assert await desk.client.read_page(SEARCH, 0, 10, Usage()) == b'{"orders":[]}'
        served.answers["/order/v1/orders"] = http(packed, "Content-Encoding: br")
        with pytest.raises(UnreadableAnswer, match="content encoding br"):
            await desk.client.read_page(SEARCH, 0, 10, Usage())


async def test_a_page_that_is_too_long(redis_url: str, served: Lab) -> None:
    """The error names the operation, the page, the limit and the settings; the request is not repeated."""
    served.answers["/order/v1/orders"] = http(b'{"orders":[' + b"1," * 50_000 + b"1]}")
    async with at_work(lab_account(served, max_response_bytes=65_536), redis_url) as desk:
        usage = Usage()
        with pytest.raises(ResponseTooLarge, match=r"orders\.search page 3: .*65536 bytes") as caught:
            await desk.client.read_page(SEARCH, 3, 10, usage)
    assert "ORDERSYNC_API__MAX_RESPONSE_BYTES" in str(caught.value)
    assert usage.requests == 1


HEADERS = {
    "100 lines in its header": [f"X-{number}: a" for number in range(200)],
    "32768 bytes in a line of its header": ["X-Long: " + "a" * 40_000],
}


@pytest.mark.parametrize("limit", HEADERS)
async def test_a_header_that_is_too_long(redis_url: str, served: Lab, limit: str) -> None:
    """Lines without number, and lines without end: the error names the operation and the limit."""
    served.closing["/order/v1/orders"] = http(b'{"orders":[]}', *HEADERS[limit])
    async with at_work(lab_account(served), redis_url) as desk:
        usage = Usage()
        with pytest.raises(
            ResponseTooLarge, match=f"orders.search page 3: the response has more than {limit}"
        ):
            await desk.client.read_page(SEARCH, 3, 10, usage)
    assert usage.requests == 1


async def test_a_redirect_is_not_followed(redis_url: str, served: Lab) -> None:
    """A token goes nowhere else: the answer is an error with its status."""
    served.answers["/order/v1/orders"] = http(b"", "Location: /elsewhere", status="302 Found")
    async with at_work(lab_account(served), redis_url) as desk:
        with pytest.raises(ApiError, match=r"orders\.search: status 302"):
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert not any(b"/elsewhere" in head for head in served.seen)


async def test_property_errors(redis_url: str, sandbox: SandboxServer) -> None:
    """The vendor's error body becomes property errors; the value that was sent is not repeated."""
    body = {
        "errors": [
            {"errorMessage": "must be a date", "propertyName": "from", "attemptedValue": "joe@example.com"}
        ]
    }
    fault(sandbox, code=400, body=json.dumps(body))
    async with at_work(account_for(sandbox), redis_url) as desk:
        with pytest.raises(ApiError, match="from: must be a date") as caught:
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert caught.value.properties == (PropertyError("must be a date", "from"),)
    assert "joe" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"message":"m"}', "status 400: m"),
        ('{"title":"Bad","detail":"d"}', "status 400: d"),
        ('{"error":"invalid_client","error_description":"unknown"}', "status 400: unknown"),
        ('{"error":{"code":"x","message":"inner"}}', "status 400: inner"),
        ('{"title":"t","errors":{"from":["a","b"]}}', "status 400: from: a; from: b"),
        ('{"errors":["one","two"]}', "status 400: one; two"),
        ('{"errors":null,"message":"m"}', "status 400: m"),
        ('{"message":{"a":1},"errors":[1]}', "status 400: empty response"),
        ('{"email":"joe@example.com"}', "status 400: empty response"),
        ('["joe@example.com"]', "status 400: empty response"),
        ('"words"', "status 400: words"),
        ("plain\n\x1b[31m words", "status 400: plain [31m words"),
        ("", "status 400: empty response"),
        ('{"a":' * 50_000, "status 400: "),
        ('{"message":"' + "x" * 100_000 + '"}', "status 400: xxx"),
        (json.dumps({"errors": [{"errorMessage": "x" * 500}] * 5_000}), "status 400: xxx"),
    ],
)
def test_the_servers_words(body: str, told: str) -> None:
    """Whatever the body is like, the error holds the server's message, short, and nothing that is none."""
    error = refusals.api_error(SEARCH, httpx.Response(400, content=body.encode()))
    assert told in str(error)
    assert "joe" not in str(error)
    assert len(str(error)) < 3_000


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Azure-Ref"])
async def test_request_id(redis_url: str, served: Lab, name: str) -> None:
    """The id that the vendor's support asks for stands in the error; a web page is not repeated."""
    served.default = http(
        b"<html>joe@example.com</html>", f"{name}: r-1", "Content-Type: text/html", status="403 No"
    )
    async with at_work(lab_account(served), redis_url) as desk:
        with pytest.raises(Forbidden, match=r"an HTML page \(request id r-1\)") as caught:
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert caught.value.request_id == "r-1"


@pytest.mark.parametrize("action", ["garbage", "truncate", "not_a_list"])
async def test_answers_that_are_no_page(redis_url: str, sandbox: SandboxServer, action: str) -> None:
    """A good status with a body that is no page is handed on as served, and is an error when it is read."""
    fault(sandbox, action=action)
    async with at_work(account_for(sandbox), redis_url) as desk:
        body = await desk.client.read_page(SEARCH, 0, 10, Usage())
    with pytest.raises(UnreadableAnswer):
        split(SEARCH, body, ("orders",), page=0)
    assert sandbox.requests.count(SEARCH) == 1


async def test_compressed_answers(redis_url: str) -> None:
    """Compressed pages are read as served before compression, and the usage tells what went over the wire."""
    usage = Usage()
    with SandboxServer(orders=20, contract=ServedContract(gzip=True)) as sandbox:
        async with at_work(account_for(sandbox), redis_url) as desk:
            body = await desk.client.read_page(SEARCH, 0, 20, usage)
        records = [bytes(record) for record in split(SEARCH, body, ("orders",), page=0).records]
        assert records == list(sandbox.store.truth().values())
    assert 0 < usage.bytes < len(body) / 2
