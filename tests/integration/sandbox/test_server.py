"""The sandbox over real HTTP: lists, single reads, logins, control routes, start and stop."""

import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.sandbox_api import SEARCH, get, login
from tests.support.waiting import PATIENCE, wait_for
from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox import (
    CLIENT_ID,
    PASSWORD,
    USERNAME,
    FaultRule,
    Lifetimes,
    NotLoopbackError,
    PortInUseError,
    SandboxOptions,
    SandboxServer,
    ServedContract,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[SandboxServer]:
    """A sandbox with 120 orders for tests that only read."""
    with SandboxServer(orders=120) as server:
        yield server


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    """A sandbox of its own, for tests that change it."""
    with SandboxServer(orders=20) as server:
        yield server


def one(server: SandboxServer, order_id: str) -> httpx.Response:
    return get(server, OPERATIONS["orders.get"].path.format(orderId=order_id))


def records(answer: httpx.Response) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer.raise_for_status().json()["orders"]
    return found


def test_a_search_serves_whole_records_in_creation_order(shared: SandboxServer) -> None:
    """Pages in turn hold every record of the truth, byte for byte, oldest first."""
    walked: list[bytes] = []
    for page in (1, 2, 3):
        answer = get(shared, SEARCH, page=page, pageSize=50)
        assert answer.headers["content-type"] == "application/json"
        rows = [
            json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() for row in records(answer)
        ]
        walked += rows
    assert walked == list(shared.store.truth().values())


def test_a_search_tells_page_size_and_total(shared: SandboxServer) -> None:
    """Beside the list stand the page, the size used and the number of all orders; the default size is 50."""
    body = get(shared, SEARCH).json()
    assert {key: value for key, value in body.items() if key != "orders"} == {
        "page": 1,
        "pageSize": 50,
        "total": 120,
    }
    assert len(body["orders"]) == 50


def test_a_page_past_the_end_is_empty(shared: SandboxServer) -> None:
    """Past the last order a page is an empty list, not an error."""
    assert records(get(shared, SEARCH, page=4, pageSize=50)) == []


def test_unknown_parameters_are_ignored(shared: SandboxServer) -> None:
    """A parameter that the service does not know changes nothing."""
    assert get(shared, SEARCH, updatedSince="2999-01-01", sort="x").content == get(shared, SEARCH).content


def test_filters_narrow_a_search(shared: SandboxServer) -> None:
    """A search by a field gives the records with that value, and counts them."""
    body = get(shared, SEARCH, status="Open").json()
    assert body["total"] == len(body["orders"]) > 0
    assert {order["status"] for order in body["orders"]} == {"Open"}


@pytest.mark.parametrize(("name", "value"), [("page", "0"), ("page", "x"), ("pageSize", "-5")])
def test_a_bad_page_parameter_is_400(shared: SandboxServer, name: str, value: str) -> None:
    """A page or size that makes no sense is refused with the parameter's name."""
    answer = get(shared, SEARCH, **{name: value})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["propertyName"] == name


def test_an_order_by_id_is_wrapped(shared: SandboxServer) -> None:
    """A single order stands under `order`, with the bytes of the list."""
    order_id = shared.store.ids()[7]
    record = shared.store.get(order_id)
    assert record is not None
    answer = one(shared, order_id)
    assert (answer.status_code, answer.content) == (200, b'{"order":' + record + b"}")


def test_an_unknown_order_is_404(shared: SandboxServer) -> None:
    """An id that is not there is a 404 with a JSON error."""
    answer = one(shared, "0" * 24)
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["attemptedValue"] == "0" * 24


@pytest.mark.parametrize(("method", "path"), [("GET", "/order/v9/orders"), ("DELETE", SEARCH)])
def test_an_unknown_operation_is_a_json_error(server: SandboxServer, method: str, path: str) -> None:
    """A path or method that no operation has is a JSON error, and is noted as unknown."""
    answer = httpx.request(method, server.url + path)
    assert answer.status_code in (404, 405)
    assert answer.json()["errors"][0]["errorMessage"] == f"There is no operation {method} {path}."
    assert server.requests.last()[-1].operation == "unknown"


def test_changes_are_served_at_once(server: SandboxServer) -> None:
    """What happens in the store, from another thread, is in the next answer."""
    (created,) = server.store.create()
    changed, deleted = server.store.ids()[:2]
    server.store.change(changed, statusDesc="seen")
    server.store.delete(deleted)
    rows = {row["id"]: row for row in records(get(server, SEARCH))}
    assert created in rows
    assert deleted not in rows
    assert rows[changed]["statusDesc"] == "seen"
    assert one(server, deleted).status_code == 404


def test_a_planted_record_reaches_the_client(server: SandboxServer) -> None:
    """Bytes that were planted are served as they are, so that a page may be unreadable."""
    server.store.replace(server.store.ids()[0], b'{"id": oops}')
    assert b'{"orders":[{"id": oops},' in get(server, SEARCH).content


@pytest.mark.parametrize("authorization", [None, "Bearer unknown", "Basic abc"])
def test_without_a_good_token_every_request_is_401(shared: SandboxServer, authorization: str | None) -> None:
    """Lists and single reads, found or not, are refused alike without a token."""
    headers = {} if authorization is None else {"authorization": authorization}
    for path in (SEARCH, f"{SEARCH}/{shared.store.ids()[0]}", f"{SEARCH}/unknown"):
        answer = httpx.get(shared.url + path, headers=headers)
        assert answer.status_code == 401
        assert "access token" in answer.json()["errors"][0]["errorMessage"]


def test_wrong_credentials_are_401(shared: SandboxServer) -> None:
    """A wrong secret is refused in words."""
    answer = httpx.post(
        shared.url + OPERATIONS["clients.token"].path, json={"clientId": CLIENT_ID, "clientSecret": "no"}
    )
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["errorMessage"] == "The client id or the client secret is wrong."


def test_a_user_session_is_refreshed(server: SandboxServer) -> None:
    """User login takes `source`, its token opens the API, and its refresh token works exactly once."""
    login_url = server.url + OPERATIONS["users.login"].path
    refresh_url = server.url + OPERATIONS["users.refresh"].path
    first = httpx.post(
        login_url, params={"source": "undefined"}, json={"username": USERNAME, "password": PASSWORD}
    ).json()
    server.auth.expire_tokens()
    stale = {"authorization": f"Bearer {first['accessToken']}"}
    assert httpx.get(server.url + SEARCH, headers=stale).status_code == 401
    renewed = httpx.post(refresh_url, json={"refreshToken": first["refreshToken"]}).json()
    fresh = {"authorization": f"Bearer {renewed['accessToken']}"}
    assert httpx.get(server.url + SEARCH, headers=fresh).status_code == 200
    assert httpx.post(refresh_url, json={"refreshToken": first["refreshToken"]}).status_code == 401


def test_lifetimes_can_be_short() -> None:
    """A token with a short lifetime is refused once it is over, without a word from the test."""
    with SandboxServer(orders=1, lifetimes=Lifetimes(client=2.0)) as server:
        headers = {"authorization": f"Bearer {login(server)}"}
        assert httpx.get(server.url + SEARCH, headers=headers).status_code == 200
        wait_for(lambda: httpx.get(server.url + SEARCH, headers=headers).status_code == 401)


def test_contract_variants_reach_the_wire() -> None:
    """A bare list, pages from 0, a size cap and descending order are served as configured."""
    contract = ServedContract(wrapper_key=None, page_base=0, max_page_size=4, descending=True)
    with SandboxServer(orders=10, contract=contract) as server:
        walked = [
            order["id"] for page in range(3) for order in get(server, SEARCH, page=page, pageSize=100).json()
        ]
        assert walked == server.store.ids()[::-1]


def test_gzip_only_for_clients_that_accept_it() -> None:
    """With gzip on, the body is compressed for a client that accepts it, and plain for one that does not."""
    with SandboxServer(orders=20, contract=ServedContract(gzip=True)) as server:
        headers = {"authorization": f"Bearer {login(server)}"}
        packed = httpx.get(server.url + SEARCH, headers=headers | {"accept-encoding": "gzip"})
        plain = httpx.get(server.url + SEARCH, headers=headers | {"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2


def test_gzip_is_off_by_default(shared: SandboxServer) -> None:
    """Without the variant nothing is compressed, whatever the client accepts."""
    assert "content-encoding" not in get(shared, SEARCH).headers


def test_latency_delays_every_request() -> None:
    """Latency is the least time an answer takes."""
    with SandboxServer(orders=1, contract=ServedContract(latency=0.1)) as server:
        before = time.monotonic()
        login(server)
        assert time.monotonic() - before >= 0.1


def test_requests_are_noted(server: SandboxServer) -> None:
    """Every request is noted with time, operation, query and status, and counted."""
    before = time.time()
    get(server, SEARCH, page=2, pageSize=5)
    get(server, SEARCH, page="x")
    token, search, _, bad = server.requests.last()
    assert (token.operation, token.query, token.status) == ("clients.token", "", 200)
    assert (search.operation, search.query, search.status) == ("orders.search", "page=2&pageSize=5", 200)
    assert (bad.operation, bad.status) == ("orders.search", 400)
    assert before <= token.time <= search.time <= time.time()
    assert server.requests.count("orders.search") == 2
    assert server.requests.count("orders.search", 400) == 1
    assert server.requests.count() == 4
    server.requests.clear()
    assert server.requests.count() == len(server.requests.last()) == 0


def test_the_ticker_keeps_orders_changing() -> None:
    """With a rate, orders are created and changed while the server runs, and no longer after it stopped."""
    with SandboxServer(orders=50, changes_per_second=500.0) as server:
        wait_for(lambda: server.store.statistics().created > 5 and server.store.statistics().changed > 5)
    after = server.store.statistics()
    assert server.store.statistics() == after


def test_control_routes_need_no_token(server: SandboxServer) -> None:
    """People create, change and look at orders under `/_sandbox/` without a login."""
    created = httpx.post(f"{server.url}/_sandbox/create", params={"n": 3}).json()["ids"]
    changed = httpx.post(f"{server.url}/_sandbox/change", params={"n": 2}).json()["ids"]
    assert server.store.ids()[-3:] == created
    assert len(changed) == 2
    stats = httpx.get(f"{server.url}/_sandbox/stats").json()
    assert (stats["orders"], stats["created"], stats["changed"]) == (23, 3, 2)
    assert stats["requests"] == {}


def test_control_numbers_are_checked(server: SandboxServer) -> None:
    """A number that makes no sense is refused, and nothing is created."""
    for text in ("0", "-1", "x", "10001"):
        assert httpx.post(f"{server.url}/_sandbox/create", params={"n": text}).status_code == 400
    assert len(server.store) == 20


def test_stats_count_requests_by_operation_and_status(server: SandboxServer) -> None:
    """Statistics tell how often each operation gave each status, and how many tokens were issued."""
    get(server, SEARCH)
    one(server, "unknown")
    stats = httpx.get(f"{server.url}/_sandbox/stats").json()
    assert stats["requests"] == {
        "clients.token": {"200": 2},
        "orders.get": {"404": 1},
        "orders.search": {"200": 1},
    }
    assert stats["tokens"] == 2


def test_truth_is_one_record_a_line(server: SandboxServer) -> None:
    """The truth is served as lines of JSON, the records as they are in pages."""
    answer = httpx.get(f"{server.url}/_sandbox/truth")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.content.splitlines() == list(server.store.truth().values())


def test_the_last_requests_are_served(server: SandboxServer) -> None:
    """The request log is served with the fields of its records."""
    get(server, SEARCH, page=2)
    last = httpx.get(f"{server.url}/_sandbox/requests").json()["requests"][-1]
    assert list(last) == ["time", "operation", "query", "status", "fault"]
    assert (last["operation"], last["query"], last["status"]) == ("orders.search", "page=2", 200)


def test_an_outage_keeps_orders_tokens_and_port() -> None:
    """Stopped, nothing answers; started again, the same port serves the same orders to the same token."""
    server = SandboxServer(orders=5)
    server.start()
    headers = {"authorization": f"Bearer {login(server)}"}
    before = httpx.get(server.url + SEARCH, headers=headers).content
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url + SEARCH, headers=headers)
    server.start()
    assert httpx.get(server.url + SEARCH, headers=headers).content == before
    server.stop()


def test_start_and_stop_may_be_repeated() -> None:
    """A second start or stop does nothing."""
    server = SandboxServer(orders=1)
    server.start()
    url = server.url
    server.start()
    assert server.url == url
    server.stop()
    server.stop()


def test_a_port_in_use_is_a_clear_error(shared: SandboxServer) -> None:
    """Starting on a taken port fails at once and names the port."""
    port = int(shared.url.rpartition(":")[2])
    with pytest.raises(PortInUseError, match=re.escape(f"port {port} on 127.0.0.1 is in use")):
        SandboxServer(SandboxOptions(port=port, orders=0)).start()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.com"])  # noqa: S104 - must be refused
def test_only_loopback_is_served(host: str) -> None:
    """An address that other machines could reach is refused before anything is opened."""
    with pytest.raises(NotLoopbackError, match=r"use 127\.0\.0\.1"):
        SandboxOptions(host=host)


def test_pipelined_and_kept_connections(shared: SandboxServer) -> None:
    """Requests that follow each other on one connection are answered in order, and it stays open."""
    request = (
        f"GET {SEARCH}?page={{}}&pageSize=1 HTTP/1.1\r\nhost: sandbox\r\n"
        f"authorization: Bearer {login(shared)}\r\n\r\n"
    )
    host, _, port = shared.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall("".join(request.format(page) for page in (1, 2, 3)).encode())
        received = b""
        while received.count(b'"total":120}') < 3:
            chunk = connection.recv(65_536)
            assert chunk
            received += chunk
    positions = [received.index(order_id.encode()) for order_id in shared.store.ids()[:3]]
    assert positions == sorted(positions)


def test_options_carry_faults() -> None:
    """Rules given with the options are in force from the start."""
    with SandboxServer(SandboxOptions(orders=1, faults=(FaultRule("status", code=500),))) as server:
        assert httpx.get(server.url + SEARCH).status_code == 500
