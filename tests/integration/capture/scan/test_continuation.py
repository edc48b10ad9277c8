"""Lists whose pages have no numbers: tokens and addresses are found, and followed to the end, but to no other host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.chained_gateway import Chained
from tests.support.faulty_gateway import (
    FILTER,
    LIST_PATH,
    Query,
    Reply,
    Watch,
    orders,
    since_modified,
    watching,
)
from tests.support.scripted_server import at_work, http, lab
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import ResyncRequest
from worker.capture.resync.runner import ResyncRunner
from worker.capture.state.cursor import Cursor
from worker.capture.state.store import StateStore
from worker.config.sections import Account, ApiSettings
from worker.ordermesh.http.usage import Usage

pytestmark = pytest.mark.anyio

NO_MORE_THAN = 60
"""Requests of a probe."""
WAYS: dict[str, dict[str, Any]] = {
    "an address in the body": {"place": "nextLink"},
    "an address in the body, no total": {"place": "nextLink", "total": False},
    "OData": {"place": "@odata.nextLink"},
    "HAL": {"place": "_links.next"},
    "an address, null at the end": {"place": "next", "null": ""},
    "a Link header": {"place": "header:Link"},
    "another path": {"place": "nextLink", "other_path": "/order/v1/orders/pages"},
    "a token": {"place": "continuationToken", "parameter": "continuationToken"},
    "a token for another parameter": {"place": "nextPageToken", "parameter": "pageToken"},
    "a nested cursor, no total": {"place": "meta.nextCursor", "parameter": "cursor", "total": False},
    "headers of Azure": {"place": "header:x-ms-continuation", "parameter": "header:x-ms-continuation"},
    "a header for a parameter": {
        "place": "header:x-ms-continuationtoken",
        "parameter": "continuationToken",
    },
    "page numbers refused": {"place": "nextLink", "strict": True},
    "at most 20": {"place": "nextLink", "cap": 20, "total": False},
}


async def reads_all(watch: Watch, plan: str = "sweep") -> None:
    """The next poll ends in order, and brings everything."""
    run = await watch.poll()
    assert (run.outcome, run.plan, run.error) == ("complete", plan, "")
    assert await watch.missing() == []


async def cursor_of(watch: Watch) -> Cursor:
    """Where the orders stand."""
    return await StateStore(watch.place.redis, watch.account.keys, ORDERS).load_cursor()


@pytest.mark.parametrize("way", WAYS)
async def test_a_way_of_continuing(redis_url: str, way: str) -> None:
    """Each is found by the probe, and the list is read to its end, also when it has grown since."""
    gateway = Chained(records=orders(130), **WAYS[way])
    async with watching(gateway, redis_url, page_size=25) as watch:
        await reads_all(watch)
        found = await watch.found()
        assert found is not None
        assert (found.next_in, found.next_parameter or None) == (gateway.place, gateway.parameter)
        assert found.requests <= NO_MORE_THAN
        gateway.add(40)
        gateway.change(3)
        gateway.change(100)
        await reads_all(watch)
        if not gateway.strict:
            return
        gateway.asked.clear()
        await reads_all(watch)
        assert all("page" not in query for query in gateway.asked)


@pytest.mark.parametrize("way", ["an address in the body", "a token", "headers of Azure"])
async def test_a_way_that_the_contract_names(redis_url: str, tmp_path: Path, way: str) -> None:
    """With names that nobody would guess; the contract file has them."""
    ways = {**WAYS[way]}
    if not ways["place"].startswith("header:"):
        ways["place"] = "paging.theOneAfter"
    if ways.get("parameter") == "continuationToken":
        ways["parameter"] = "goOnWith"
    file = tmp_path / "contract.toml"
    lines = ['[operations."orders.search"]', f'next_in = "{ways["place"]}"']
    lines += [f'next_parameter = "{ways["parameter"]}"'] if ways.get("parameter") else []
    file.write_text("\n".join(lines))
    gateway = Chained(records=orders(130), **ways)
    async with watching(gateway, redis_url, page_size=25, contract_file=file) as watch:
        await reads_all(watch)
        gateway.add(1)
        await reads_all(watch)


@pytest.mark.parametrize("way", ["an address in the body", "a token"])
async def test_newer_changes_through_a_filter(redis_url: str, way: str) -> None:
    """A window goes on from page to page as a full scan does, and the filter stays."""
    gateway = Chained(records=orders(130), keeps=since_modified, **WAYS[way])
    async with watching(gateway, redis_url, page_size=25) as watch:
        await reads_all(watch)
        found = await watch.found()
        assert found is not None
        assert found.since == FILTER
        for number in range(60):
            gateway.change(number)
        gateway.asked.clear()
        await reads_all(watch, "window")
        assert all(FILTER in query for query in gateway.asked)


@pytest.mark.parametrize("way", ["an address in the body", "a token", "headers of Azure"])
async def test_a_full_scan_is_resumed(redis_url: str, way: str) -> None:
    """A scan that is interrupted goes on with the continuation that it has come to."""
    gateway = Chained(records=orders(130), **WAYS[way])
    async with watching(gateway, redis_url, page_size=25) as watch:
        await watch.account.capabilities.ensure(ORDERS)
        gateway.asked.clear()
        run = await watch.poll(stop=lambda: len(gateway.asked) >= 3)
        assert run.outcome == "stopped"
        kept = await cursor_of(watch)
        assert kept.scan.after
        asked = len(gateway.asked)
        await reads_all(watch)
        assert len(gateway.asked) - asked <= 6 - kept.scan.page
        assert (await cursor_of(watch)).scan.after == ""


@pytest.mark.parametrize("status", [400, 404, 410])
@pytest.mark.parametrize("way", ["an address in the body", "a token"])
async def test_a_continuation_that_has_expired(redis_url: str, way: str, status: int) -> None:
    """It is refused: the list is read from its beginning, in the same poll."""
    gateway = Chained(records=orders(130), **WAYS[way])
    async with watching(gateway, redis_url, page_size=25) as watch:
        await watch.account.capabilities.ensure(ORDERS)
        asked = len(gateway.asked)
        assert (await watch.poll(stop=lambda: len(gateway.asked) >= asked + 3)).outcome == "stopped"
        kept = (await cursor_of(watch)).scan.after
        refusals = 0

        def expired(path: str, query: Query) -> Reply | None:
            nonlocal refusals
            if (
                path == LIST_PATH
                and refusals == 0
                and any(value in kept for value in query.values() if "t-" in value)
            ):
                refusals += 1
                return status, {"message": "this token has expired"}
            return None

        gateway.interfere = expired
        await reads_all(watch, "sweep+sweep")
        assert refusals == 1


async def test_a_continuation_that_is_refused_each_time(redis_url: str) -> None:
    """The poll fails with a message, and reads from the beginning next time; what was read is published."""
    gateway = Chained(records=orders(130), **WAYS["a token"])
    async with watching(gateway, redis_url, page_size=25) as watch:
        await watch.account.capabilities.ensure(ORDERS)
        gateway.expired = {"t-50"}
        run = await watch.poll()
        assert (run.outcome, run.error_code) == ("failed", "continuation_refused")
        assert len(await watch.missing()) == 80
        gateway.expired = set()
        await reads_all(watch)


@pytest.mark.parametrize("how", ["circle", "endless", "ignored"])
async def test_continuations_that_lead_nowhere(redis_url: str, how: str) -> None:
    """A circle, pages without end, and a token that is ignored are noticed; the read is never called complete."""
    gateway = Chained(records=orders(130), **WAYS["a token"])
    async with watching(gateway, redis_url, page_size=25) as watch:
        await watch.account.capabilities.ensure(ORDERS)
        gateway.asked.clear()
        if how == "circle":
            gateway.circle = 3
        elif how == "endless":
            gateway.endless = True
        else:
            gateway.parameter = "another"
        run = await watch.poll()
        assert (run.outcome, run.error_code) == ("failed", "unreadable_answer")
        assert len(gateway.asked) <= 200


ABROAD = [
    "http://elsewhere.example",
    "//elsewhere.example",
    "https://{host}.elsewhere.example",
    "http://{host}@elsewhere.example",
    "http://elsewhere.example#@{host}",
    "http://elsewhere.example\\@{host}",
    "http://someone:secret@{host}:{port}",
    "http://{host}:1",
    "ftp://{host}:{port}",
    "javascript:",
]


@pytest.mark.parametrize("host", ABROAD)
async def test_an_address_at_another_host(redis_url: str, tmp_path: Path, host: str) -> None:
    """It is refused before anything is sent: the token of the account goes to the gateway alone."""
    file = tmp_path / "contract.toml"
    file.write_text('[operations."orders.search"]\nnext_in = "nextLink"\n')
    async with lab() as stranger:
        gateway = Chained(records=orders(130), place="nextLink")
        async with watching(gateway, redis_url, page_size=25, contract_file=file) as watch:
            await reads_all(watch)
            name, _, port = gateway.url.removeprefix("http://").partition(":")
            gateway.host = host.format(host=name, port=port)
            gateway.asked.clear()
            run = await watch.poll()
            assert (run.outcome, run.error_code) == ("failed", "unreadable_answer")
            assert "secret" not in run.error
            assert len(gateway.asked) == 1
            gateway.host = stranger.url
            run = await watch.poll()
            assert (run.outcome, run.error_code) == ("failed", "unreadable_answer")
            assert "sends its token to no other host" in run.error
        assert stranger.seen == []


@pytest.mark.parametrize("way", ["an address in the body", "a token"])
async def test_a_forced_resync(redis_url: str, way: str) -> None:
    """Each order is published once more."""
    gateway = Chained(records=orders(130), **WAYS[way])
    async with watching(gateway, redis_url, page_size=25) as watch:
        await reads_all(watch)
        runner = ResyncRunner(watch.account.poller.context)
        request = ResyncRequest(resource="orders", all=True, force=True)
        await runner.resyncs.create(request, watch.clock.now(), "again")
        await runner.slice(ORDERS, "again")
        resync = await runner.resyncs.get("again")
        assert resync is not None
        assert (resync.state, resync.published, resync.error) == ("done", 130, "")


async def test_an_address_is_only_read(redis_url: str, tmp_path: Path) -> None:
    """A list that is searched with POST continues with GET: an address may be that of anything."""
    file = tmp_path / "contract.toml"
    file.write_text('[operations."orders.search"]\nmethod = "POST"\npath = "/search"\nnext_in = "nextLink"\n')
    async with lab() as served:
        served.answers["/user/v1/clients/token"] = http(b'{"accessToken": "made-up", "expiresIn": 86400}')
        served.answers["/search"] = http(b'{"orders": [{"id": "1"}], "nextLink": "/order/v1/orders?go=on"}')
        served.answers["/order/v1/orders"] = http(b'{"orders": [{"id": "2"}]}')
        api = ApiSettings(base_url=served.url, client_id="made-up", client_secret=SecretStr("made-up"))
        account = Account(name="default", api=api, intervals={}, ignore_fields={}, contract_file=file)
        async with at_work(account, redis_url) as desk:
            _, after = await desk.client.read_continued("orders.search", 10, Usage())
            body, end = await desk.client.read_continued("orders.search", 10, Usage(), after=after)
        assert (body, end) == (b'{"orders": [{"id": "2"}]}', "")
        assert [head.split(b" HTTP", 1)[0] for head in served.seen[1:]] == [
            b"POST /search?pageSize=10",
            b"GET /order/v1/orders?go=on",
        ]
