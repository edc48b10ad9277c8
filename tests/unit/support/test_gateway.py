"""The instruments of the campaign measure: the judge finds what is wrong, the gateway and the proxy do what is said."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.gateway import OTHER, Gateway, Judge, Serving
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.waiting import wait_for

STREAM = "ordersync:{default}:stream:orders"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(orders=5) as one:
        one.first_asked["orders"] = time.time()
        yield one


class Pen:
    """Writes events by hand."""

    def __init__(self, url: str) -> None:
        self.redis: Any = redis.Redis.from_url(url)
        self.versions: dict[str, int] = {}
        self.sequence = 0

    def tell(self, action: str, record: dict[str, Any], reason: str = "poll") -> None:
        """Add one event, numbered as it should be."""
        self.sequence += 1
        subject = record["id"]
        self.versions[subject] = self.versions.get(subject, 0) + 1
        values = {
            "id": f"{subject}:{self.versions[subject]}",
            "type": f"io.ordermesh.order.{action}",
            "subject": subject,
            "sequence": self.sequence,
            "version": self.versions[subject],
            "reason": reason,
            "data": json.dumps(record),
        }
        self.redis.xadd(STREAM, values)

    def tell_all(self, gateway: Gateway) -> None:
        """Tell of every order as it is."""
        for record in gateway.history.truth("orders").values():
            self.tell("snapshot", record)


@pytest.fixture
def pen(redis_url: str) -> Iterator[Pen]:
    one = Pen(redis_url)
    yield one
    one.redis.close()


def test_right_events_are_right(gateway: Gateway, pen: Pen, redis_url: str) -> None:
    history = gateway.history
    with Judge(gateway, redis_url) as judge:
        assert judge.verdict().counts == {"missed": 5}
        pen.tell_all(gateway)
        assert judge.verdict().counts == {}
        judge.settled = time.time()
        (new,) = history.create("orders")
        first = history.ids("orders")[0]
        history.change("orders", [first])
        assert judge.verdict().counts == {"missed": 2}
        pen.tell("created", history.truth("orders")[new])
        pen.tell("updated", history.truth("orders")[first])
        history.restore("orders", [first])
        assert judge.verdict().counts == {"missed": 1}
        pen.tell("updated", history.truth("orders")[first])
        history.delete("orders", [new])
        pen.tell("deleted", {"id": new})
        assert judge.verdict().counts == {}


@pytest.mark.parametrize(
    ("wrong", "action"),
    [
        ("twice", "updated"),
        ("out_of_order", "updated"),
        ("never_so", "updated"),
        ("foreign", "created"),
        ("wrongly_deleted", "deleted"),
        ("wrong_first", "snapshot"),
    ],
)
def test_what_is_wrong_is_found(gateway: Gateway, pen: Pen, redis_url: str, wrong: str, action: str) -> None:
    history = gateway.history
    first = history.ids("orders")[0]
    with Judge(gateway, redis_url) as judge:
        pen.tell_all(gateway)
        judge.settled = time.time()
        record = history.truth("orders")[first]
        match wrong:
            case "out_of_order":
                history.change("orders", [first])
                pen.tell("updated", history.truth("orders")[first])
            case "never_so":
                record = {**record, "status": "made up"}
            case "foreign":
                (other,) = history.create("orders", tenant=OTHER)
                record = history.truth("orders", OTHER)[other]
            case "wrong_first":
                (new,) = history.create("orders")
                record = history.truth("orders")[new]
        pen.tell(action, record)
        assert judge.verdict().counts.pop(wrong) == 1, str(judge.verdict())


def ask(gateway: Gateway, path: str) -> tuple[int, Any]:
    """The status and the body of an answer."""
    headers = {"Authorization": "Bearer campaign-token-1"}
    request = urllib.request.Request(gateway.url + path, headers=headers)  # noqa: S310 - our own server
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310
            body = reply.read()
            return reply.status, json.loads(body) if body else None
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, None


@pytest.mark.parametrize(
    ("serving", "path", "expected"),
    [
        (Serving(), "/order/v1/orders?page=3&pageSize=2", (200, 1, 5)),
        (Serving(first_page=0, total=None), "/order/v1/orders?page=0&pageSize=2", (200, 2, None)),
        (Serving(past_end="no content"), "/order/v1/orders?page=9&pageSize=2", (204, 0, None)),
        (Serving(past_end=404), "/order/v1/orders?page=9&pageSize=2", (404, 0, None)),
        (Serving(past_end="first"), "/order/v1/orders?page=9&pageSize=2", (200, 2, 5)),
        (Serving(told_total=lambda n: n + 4000), "/order/v1/orders?pageSize=2", (200, 2, 4005)),
        (Serving(nothing=True), "/order/v1/orders", (200, 0, 0)),
        (Serving(tenant=OTHER), "/order/v1/orders", (200, 0, 0)),
        (Serving(hidden=lambda record: record["revision"] > 2), "/order/v1/orders", (200, 2, 2)),
        (Serving(), "/order/v1/orders/none", (404, 0, None)),
        (Serving(gone=410), "/order/v1/orders/none", (410, 0, None)),
    ],
)
def test_lists_are_served_as_told(serving: Serving, path: str, expected: tuple[int, int, int | None]) -> None:
    with Gateway(orders=5, serving=serving) as gateway:
        status, body = ask(gateway, path)
        rows = len(body["orders"]) if body else 0
        assert (status, rows, body.get("totalCount") if body else None) == expected


def test_filters_and_sorts_may_be_stale() -> None:
    with Gateway(orders=5, serving=Serving(filters=True, sorts=True)) as gateway:
        first = gateway.history.ids("orders")[0]
        gateway.history.change("orders", [first])
        since = "/order/v1/orders?updatedFrom=" + gateway.history.truth("orders")[first]["updatedAt"]
        newest = "/order/v1/orders?sortBy=updatedAt&sortDirection=desc"
        assert [one["id"] for one in ask(gateway, since)[1]["orders"]] == [first]
        assert ask(gateway, newest)[1]["orders"][0]["id"] == first
        gateway.serving.stale_since = time.time()
        time.sleep(0.01)
        last = gateway.history.ids("orders")[-1]
        gateway.history.change("orders", [last])
        assert ask(gateway, newest)[1]["orders"][0]["id"] == first
        assert len(ask(gateway, since)[1]["orders"]) == 1


def test_audit_logs_have_pages() -> None:
    with Gateway(orders=1, serving=Serving(audit_page=50)) as gateway:
        (order,) = gateway.history.ids("orders")
        gateway.history.add_entries("orders", order, 119)
        whole = [ask(gateway, f"/order/v1/orders/{order}/auditLogs?page={n}")[1] for n in (1, 2, 3)]
        assert [len(page["auditLogs"]) for page in whole] == [50, 50, 20]
        assert whole[0]["totalCount"] == 120


@pytest.mark.parametrize("action", ["status", "truncate", "reset", "garbage", "empty"])
def test_answers_are_spoiled(gateway: Gateway, action: Any) -> None:
    fault = gateway.faults.add(action, path="/orders$", page=1, times=1)
    assert len(ask(gateway, "/order/v1/orders?page=1&pageSize=2")[1]["orders"]) == 2
    second = "/order/v1/orders?page=2&pageSize=2"
    if action in {"truncate", "reset", "garbage"}:
        with pytest.raises((OSError, ValueError, http.client.HTTPException)):
            ask(gateway, second)
    else:
        assert ask(gateway, second) == {"status": (503, None), "empty": (200, {"orders": []})}[action]
    assert fault.count == 1
    assert len(ask(gateway, "/order/v1/orders?page=2&pageSize=2")[1]["orders"]) == 2


def test_a_token_may_be_revoked(gateway: Gateway) -> None:
    assert ask(gateway, "/order/v1/orders")[0] == 200
    gateway._tokens = 1
    gateway.revoke()
    assert ask(gateway, "/order/v1/orders")[0] == 401


@pytest.fixture
def proxy(shared_server: Server, redis_url: str) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", shared_server.port) as one:
        yield one


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Any]:
    with redis.Redis(port=proxy.port, socket_timeout=2.0, retry=None) as client:
        yield client


def test_the_proxy_passes_on(proxy: Proxy, client: Any) -> None:
    client.set("a", "b" * 100_000)
    assert client.get("a") == b"b" * 100_000


def test_the_proxy_is_a_hole(proxy: Proxy, client: Any) -> None:
    client.set("a", "b")
    proxy.hole = True
    with pytest.raises(redis.TimeoutError):
        client.get("a")
    proxy.hole = False
    assert client.get("a") == b"b"


def test_the_proxy_holds_answers_back(proxy: Proxy, client: Any) -> None:
    client.ping()
    proxy.latency = 0.1
    started = time.monotonic()
    client.ping()
    assert time.monotonic() - started >= 0.1


def test_the_proxy_drops_an_answer_after_the_request_was_executed(proxy: Proxy, client: Any) -> None:
    client.set("a", 0)
    proxy.drop_answer(b"INCR")
    with pytest.raises(redis.ConnectionError):
        client.incr("a")
    assert proxy.dropped == 1
    assert client.get("a") == b"1"


@pytest.mark.parametrize("count", [1, 50, 100_001])
def test_the_proxy_resets_at_a_byte(proxy: Proxy, client: Any, count: int) -> None:
    client.set("a", "b" * 200_000)
    proxy.reset_after(count)
    with pytest.raises(redis.ConnectionError):
        client.get("a")
    assert proxy.dropped == 1
    assert len(client.get("a")) == 200_000


def test_the_proxy_cuts_and_refuses(proxy: Proxy, client: Any) -> None:
    client.ping()
    proxy.refuse = True
    proxy.cut()
    wait_for(lambda: not proxy.open)
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.refuse = False
    assert client.ping()


def test_settings_name_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    assert gateway.settings("redis://x", tmp_path)["api__base_url"] == gateway.url
