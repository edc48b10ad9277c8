"""Every fault of the sandbox as a client sees it."""

import json
import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.sandbox_api import SEARCH, get, login
from tests.support.waiting import PATIENCE, wait_for
from worker.sandbox import FaultRule, SandboxServer, ServedContract


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    """A sandbox with 20 orders."""
    with SandboxServer(orders=20) as server:
        yield server


def on_search(server: SandboxServer, action: str, **fields: Any) -> None:
    server.faults.replace([FaultRule(action, operation="orders.search", **fields)])


def test_status(server: SandboxServer) -> None:
    """`status` answers with the code, Retry-After and body that it was given."""
    on_search(server, "status", code=429, retry_after=7, body='{"slow": "down"}')
    answer = get(server, SEARCH)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json() == {"slow": "down"}


def test_status_by_default(server: SandboxServer) -> None:
    """Without more, `status` is a 503 with a JSON error and no Retry-After."""
    on_search(server, "status")
    answer = get(server, SEARCH)
    assert answer.status_code == 503
    assert answer.json()["errors"]
    assert "retry-after" not in answer.headers


def test_status_without_a_body(server: SandboxServer) -> None:
    """A 204 has no body, and the connection goes on."""
    on_search(server, "status", code=204, body="ignored", times=1)
    answer = get(server, SEARCH)
    assert (answer.status_code, answer.content) == (204, b"")
    assert get(server, SEARCH).status_code == 200


def test_status_may_hit_a_login(server: SandboxServer) -> None:
    """Faults reach the user service too."""
    server.faults.replace([FaultRule("status", operation="clients.token", code=500)])
    with pytest.raises(httpx.HTTPStatusError):
        login(server)


def test_delay(server: SandboxServer) -> None:
    """`delay` waits, then answers as usual."""
    expected = get(server, SEARCH).content
    on_search(server, "delay", seconds=0.2)
    before = time.monotonic()
    assert get(server, SEARCH).content == expected
    assert time.monotonic() - before >= 0.2


def test_drop(server: SandboxServer) -> None:
    """`drop` closes the connection without a byte; the next connection is served."""
    on_search(server, "drop", times=1)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        get(server, SEARCH)
    assert get(server, SEARCH).status_code == 200
    noted = [record for record in server.requests.last() if record.operation == "orders.search"]
    assert [(record.status, record.fault) for record in noted] == [(0, "drop"), (200, None)]


def test_drop_may_hit_a_request_with_a_body(server: SandboxServer) -> None:
    """`drop` on a POST closes the connection after its body was read."""
    server.faults.replace([FaultRule("drop", operation="clients.token")])
    with pytest.raises(httpx.RemoteProtocolError):
        login(server)


def test_truncate(server: SandboxServer) -> None:
    """`truncate` cuts the body in half in an answer that is correct HTTP."""
    whole = get(server, SEARCH).content
    on_search(server, "truncate")
    answer = get(server, SEARCH)
    assert answer.content == whole[: len(whole) // 2]
    assert int(answer.headers["content-length"]) == len(answer.content)
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_garbage(server: SandboxServer) -> None:
    """`garbage` is a 200 whose body is no JSON, its own or the given one."""
    on_search(server, "garbage")
    answer = get(server, SEARCH)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    on_search(server, "garbage", body="be right back")
    assert get(server, SEARCH).text == "be right back"


def test_not_a_list(server: SandboxServer) -> None:
    """`not_a_list` puts an object where the list belongs and leaves the rest."""
    on_search(server, "not_a_list")
    assert get(server, SEARCH).json() == {"orders": {}, "page": 1, "pageSize": 50, "total": 0}


def test_empty(server: SandboxServer) -> None:
    """`empty` is a 200 with an empty list, also in a bare layout."""
    on_search(server, "empty")
    assert get(server, SEARCH).json() == {"orders": [], "page": 1, "pageSize": 50, "total": 0}
    with SandboxServer(orders=3, contract=ServedContract(wrapper_key=None)) as bare:
        on_search(bare, "empty")
        assert get(bare, SEARCH).json() == []


@pytest.mark.parametrize("action", ["empty", "not_a_list", "delay", "truncate"])
def test_spoiled_answers_still_need_a_token(server: SandboxServer, action: str) -> None:
    """A fault of the content gives nothing to a client without a token."""
    on_search(server, action, seconds=0)
    assert httpx.get(server.url + SEARCH).status_code == 401


def test_hang_lasts_until_the_client_gives_up(server: SandboxServer) -> None:
    """`hang` never answers; the client's timeout ends it, and the server notes it without an answer."""
    on_search(server, "hang", times=1)
    headers = {"authorization": f"Bearer {login(server)}"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(server.url + SEARCH, headers=headers, timeout=httpx.Timeout(60, read=1))
    assert httpx.get(server.url + SEARCH, headers=headers).status_code == 200
    wait_for(lambda: any(record.fault == "hang" for record in server.requests.last()))
    assert [record.status for record in server.requests.last() if record.fault == "hang"] == [0]


def test_a_page_number_aims_a_fault(server: SandboxServer) -> None:
    """A rule with a page spoils that page alone, also when the client leaves the number out."""
    on_search(server, "status", page=2)
    assert [get(server, SEARCH, page=page, pageSize=5).status_code for page in (1, 2, 3)] == [200, 503, 200]
    on_search(server, "status", page=1)
    assert get(server, SEARCH).status_code == 503


def test_after_and_times(server: SandboxServer) -> None:
    """A rule lets requests pass first and stops after its number of times."""
    on_search(server, "status", after=1, times=2)
    assert [get(server, SEARCH).status_code for _ in range(5)] == [200, 503, 503, 200, 200]


def test_faults_are_replaced_over_http(server: SandboxServer) -> None:
    """The control route replaces the rules and tells how many; statistics tell how often each acted."""
    rules = [{"name": "busy", "operation": "orders.search", "action": "status", "times": "unlimited"}]
    answer = httpx.post(f"{server.url}/_sandbox/faults", json={"rules": rules})
    assert answer.json() == {"rules": 1}
    get(server, SEARCH)
    assert httpx.get(f"{server.url}/_sandbox/stats").json()["faults"] == [
        {"rule": "busy", "action": "status", "operation": "orders.search", "fired": 1}
    ]
    httpx.post(f"{server.url}/_sandbox/faults", json=[])
    assert get(server, SEARCH).status_code == 200


@pytest.mark.parametrize("content", ["{", '[{"action": "explode"}]', '{"rule": 5}'])
def test_bad_rules_over_http_change_nothing(server: SandboxServer, content: str) -> None:
    """Rules that cannot be used are a 400 in words, and those in force stay."""
    on_search(server, "status")
    answer = httpx.post(f"{server.url}/_sandbox/faults", content=content)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["errorMessage"]
    assert get(server, SEARCH).status_code == 503


@pytest.mark.parametrize("action", ["hang", "delay"])
def test_a_waiting_request_does_not_hold_up_the_end(
    server: SandboxServer, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that waits on purpose is let go when the server stops: nothing has to be cancelled."""
    on_search(server, action, seconds=600)
    host, _, port = server.url.removeprefix("http://").partition(":")
    request = f"GET {SEARCH} HTTP/1.1\r\nhost: sandbox\r\nauthorization: Bearer {login(server)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(request.encode())
        wait_for(lambda: server.faults.fired() == [1])
        server.stop()
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
        # A hanging request ends without an answer, a delayed one is answered early.
        assert (connection.recv(1) == b"") is (action == "hang")
