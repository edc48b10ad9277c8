"""Resyncs: what is asked for is read and published once, beside the polls, whatever happens to the workers."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from arq.worker import Retry

from jobs.resync import resync
from jobs.worker import make_resync_worker
from tests.support.arq_worker import planned
from tests.support.commands import ordersync
from tests.support.documentation import block
from tests.support.programs import Program, login_settings
from tests.support.resyncing import ask, work
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.capture.registry import CATEGORIES, ORDERS
from worker.capture.resources import Resource
from worker.capture.resync.requests import MAX_IDS, ResyncRequest, ResyncState
from worker.errors import SettingsError
from worker.keys import Keys
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer, ServedContract

pytestmark = pytest.mark.anyio


def called(raw: bytes, name: str) -> str:
    return str(json.loads(raw)[name])


async def test_ids_of_any_kind(bench: BenchMaker) -> None:
    """By id, short id, safe id or external id; unchanged ones stay silent, and what is not there is named."""
    async with bench(probe=True) as b:
        await b.poll()
        truth = b.sandbox.store.truth()
        one, two, three, four, *_ = truth
        b.sandbox.store.change(one, status="Cancelled")
        ids = (
            one,
            called(truth[two], "shortId"),
            called(truth[three], "safeId"),
            called(truth[four], "externalId"),
        )
        done = await work(b, await ask(b, ids=(*ids, "NOPE")))
        assert (done.state, done.published, done.unchanged, done.missing) == (
            ResyncState.DONE,
            1,
            3,
            ("NOPE",),
        )
        event = (await b.events())[-1]
        assert (event.subject, event.reason, event.action) == (one, "resync", "updated")
        assert (await b.poll()).published == 0


@pytest.mark.parametrize("page_size", [2, 100])
async def test_ids_of_what_has_no_single_read(bench: BenchMaker, page_size: int) -> None:
    """The list is read through until they were seen, on whatever page they are."""
    async with bench(page_size=page_size) as b:
        await b.poll(CATEGORIES)
        categories = b.sandbox.world.categories
        first, *_, last = categories.ids()
        renamed = categories.get(last)
        assert renamed is not None
        categories.put({**renamed, "name": "Mugs and cups"})
        done = await work(b, await ask(b, CATEGORIES, ids=(last, "NOPE", first)), CATEGORIES)
        assert (done.state, done.published, done.unchanged, done.missing) == (
            ResyncState.DONE,
            1,
            1,
            ("NOPE",),
        )
        event = (await b.events("categories"))[-1]
        assert (event.subject, event.reason, event.action) == (last, "resync", "updated")
        assert (await b.poll(CATEGORIES)).published == 0


@pytest.mark.parametrize("resource", [ORDERS, CATEGORIES])
@pytest.mark.parametrize("odd", [".", "..", "a/b", "\u00e4 %2F?#"])
async def test_ids_that_no_path_can_hold(bench: BenchMaker, resource: Resource, odd: str) -> None:
    """They are found under no record, and others are read nevertheless."""
    async with bench() as b:
        await b.poll(resource)
        known = (b.sandbox.world.categories if resource is CATEGORIES else b.sandbox.store).ids()[0]
        done = await work(b, await ask(b, resource, ids=(odd, known)), resource)
        assert (done.state, done.unchanged, done.missing) == (ResyncState.DONE, 1, (odd,))


async def test_many_ids_are_looked_for_in_one_reading_of_the_list(bench: BenchMaker) -> None:
    """Where there is no read by id, not once for each twenty of them."""
    async with bench() as b:
        await b.poll(CATEGORIES)
        before = len(b.sandbox.requests.last())
        known = b.sandbox.world.categories.ids()
        unknown = tuple(f"NOPE{number}" for number in range(60))
        done = await work(b, await ask(b, CATEGORIES, ids=(*unknown, *known)), CATEGORIES)
        assert (done.unchanged, done.missed, done.position) == (len(known), 60, 60 + len(known))
        asked = [each for each in b.sandbox.requests.last()[before:] if each.operation == "categories.list"]
        assert len(asked) == 2  # all of it, and the end


async def test_a_list_that_ends_too_early_is_no_proof(bench: BenchMaker) -> None:
    """An empty page before the total is read once more, and ids behind it are found."""
    async with bench(page_size=2) as b:
        await b.poll(CATEGORIES)
        *_, last = b.sandbox.world.categories.ids()
        b.sandbox.faults.replace([FaultRule("empty", operation="categories.list", page=2, times=1)])
        name = await ask(b, CATEGORIES, ids=(last,), force=True)
        done = await work(b, name, CATEGORIES)
        assert (done.published, done.missing) == (1, ())


async def test_a_filter_that_is_ignored_finds_nothing_wrong(bench: BenchMaker) -> None:
    """A server that does not know short ids answers with other orders: none of them is taken for the one."""
    async with bench() as b:
        await b.poll()
        b.sandbox.faults.replace([])
        done = await work(b, await ask(b, ids=("O99999999",)))
        assert (done.published, done.missing) == (0, ("O99999999",))


async def test_forced_ones_are_published_once(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next version and no changed fields; also when the worker dies between a commit and its note."""
    async with bench(page_size=10) as b:
        await b.poll()
        name = await ask(b, all=True, force=True)
        note = b.account.resyncer.resyncs.update
        died: list[str] = []

        async def dies(name: str, **fields: Any) -> None:
            if "read" in fields and len(died) < 3:
                died.append(name)
                raise ConnectionError("the worker died here")
            await note(name, **fields)

        monkeypatch.setattr(b.account.resyncer.resyncs, "update", dies)
        for _ in range(3):
            with pytest.raises(ConnectionError):
                await b.account.resyncer.slice(ORDERS, name)
        await work(b, name)
        events = await b.events()
        assert Counter(event.subject for event in events) == dict.fromkeys(b.sandbox.store.ids(), 2)
        assert {(event.version, event.changed, event.reason) for event in events[50:]} == {(2, (), "resync")}
        assert len({event.id for event in events}) == 100
        assert (await b.poll()).published == 0


@pytest.mark.parametrize("honoured", [True, False])
async def test_a_window(bench: BenchMaker, *, honoured: bool) -> None:
    """What was modified in it, whether or not the gateway can leave out the rest."""
    with SandboxServer(orders=40, contract=ServedContract(since_honoured=honoured)) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await b.poll()
            times = sorted(
                json.loads(raw)["updatedAt"] or json.loads(raw)["createdAt"]
                for raw in sandbox.store.truth().values()
            )
            done = await work(b, await ask(b, since=times[10], until=times[19], force=True))
            assert done.published == 10
            again = [event.time for event in (await b.events())[40:]]
            assert sorted(again) == times[10:20]


async def test_own_cursor_and_own_reads_are_left_alone(bench: BenchMaker) -> None:
    """A sweep that was stopped goes on where it was; nothing of a resync is left in the cursor when it is over."""
    async with bench(page_size=10) as b:
        await b.poll()
        pages = iter(range(100))
        await b.poll(stop=lambda: next(pages) > 2)
        before = await b.cursor()
        assert before.scan.page > 0
        await work(b, await ask(b, all=True))
        after = await b.cursor()
        assert (after.scan.page, after.scan.started, after.mark, after.due_at) == (
            before.scan.page, before.scan.started, before.mark, before.due_at,
        )  # fmt: skip
        fields = await answer(b.redis.hkeys(b.account.keys.cursor("orders")))
        assert not [each for each in fields if each.startswith(b"resync")]


async def test_it_pays_with_its_share(bench: BenchMaker) -> None:
    """Between two slices it waits, without the lease, until its requests fit into its share of the budget."""
    async with bench(page_size=10, requests_per_second=10) as b:
        await b.poll()
        name = await ask(b, ids=tuple(b.sandbox.store.ids()))
        await b.account.resyncer.slice(ORDERS, name)
        found = await b.account.resyncer.resyncs.get(name)
        assert found is not None
        assert found.position == 20
        # 20 requests at half of 10 a second are 4 seconds, of which the slice itself took some.
        assert found.due_at > b.services.clock.now() + 0.5
        assert (await b.poll()).outcome == "complete"


async def test_cancelled_and_resumed(bench: BenchMaker) -> None:
    """It ends behind what it has in hand, and goes on there."""
    async with bench() as b:
        await b.poll()
        resyncs = b.account.resyncer.resyncs
        name = await ask(b, ids=tuple(b.sandbox.store.ids()), force=True)
        stop = iter([False, True, True])
        await b.account.resyncer.slice(ORDERS, name, stop=lambda: next(stop, True))
        await resyncs.cancel(name, b.services.clock.now())
        await b.account.resyncer.slice(ORDERS, name)
        assert len(await b.events()) == 70
        assert await resyncs.open() == []
        with pytest.raises(SettingsError, match="already cancelled"):
            await resyncs.cancel(name, 0)
        await resyncs.resume(name)
        assert (await work(b, name)).state is ResyncState.DONE
        assert len(await b.events()) == 100
        with pytest.raises(SettingsError, match="only a cancelled resync"):
            await resyncs.resume(name)
        with pytest.raises(SettingsError, match="Unknown resync 'nonsense'"):
            await resyncs.resume("nonsense")


async def test_a_failure_is_told_and_tried_again(bench: BenchMaker) -> None:
    """It waits for the gateway, and loses nothing."""
    async with bench(attempts=1, page_size=10) as b:
        await b.poll()
        b.sandbox.faults.replace([FaultRule("status", operation="orders.search", page=3, times=1, code=500)])
        name = await ask(b, all=True, force=True)
        await b.account.resyncer.slice(ORDERS, name)
        found = await b.account.resyncer.resyncs.get(name)
        assert found is not None
        assert "500" in found.error
        assert (found.failures, found.position) == (1, 2)
        assert (await work(b, name)).error == ""
        assert len(await b.events()) == 100


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"ids": ("a",), "all": True},
        {"ids": ("a", " ")},
        {"ids": ("\udcff",)},
        {"ids": ("a",) * (MAX_IDS + 1)},
        {"since": "yesterday"},
        {"since": "2026-03-02T10:00:00Z", "until": "2026-03-01T10:00:00Z"},
    ],
)
def test_what_makes_no_sense(request_: dict[str, Any]) -> None:
    """It is refused before anything is noted, and the message says what to do."""
    with pytest.raises(SettingsError):
        ResyncRequest(resource="orders", **request_).check()


async def test_asked_for_by_another_program(bench: BenchMaker, redis_url: str) -> None:
    """One arq call notes it, under the id of the job; asked twice it is one; nonsense is logged and harmless."""
    async with bench() as b:
        await b.poll()
        ctx = {"services": b.services, "job_id": "theirs"}
        for _ in range(2):
            await resync(
                ctx, "default", "orders", {"ids": b.sandbox.store.ids()[:3], "force": True, "by": "erp"}
            )
        (noted,) = await b.account.resyncer.resyncs.open()
        assert (noted.id, noted.request.by, noted.total) == ("theirs", "erp", 3)
        for nonsense in ({}, {"ids": "x"}, {"all": True, "evil": 1}, {"ids": [1]}):
            await resync(ctx | {"job_id": "bad"}, "default", "orders", nonsense)
        await resync(ctx | {"job_id": "bad"}, "default", "nothing", {"all": True})
        assert len(await b.account.resyncer.resyncs.open()) == 1
        with pytest.raises(Retry):
            await resync(ctx, "other", "orders", {"all": True})
        async with planned(b.services, redis_url) as schedule:
            assert "resyncs/resync:default:orders:theirs" in await schedule.due()


async def test_the_documented_call(bench: BenchMaker, redis_url: str) -> None:
    """It is taken up as it is written there, by a worker that serves the account."""
    code = block("docs/guide/resync.md", "python")
    code = code.replace("RedisSettings()", f"RedisSettings(port={urlsplit(redis_url).port})")
    names: dict[str, Any] = {}
    await eval(compile(code, "resync.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307 - ours
    await names["pool"].aclose(close_connection_pool=True)
    async with bench() as b:
        worker = make_resync_worker(redis_url, b.services, "test-1")
        task = asyncio.ensure_future(worker.async_run())
        (noted,) = await eventually(b.account.resyncer.resyncs.open)
        assert (noted.request.ids, noted.request.force) == (("O04790082",), True)
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1)
        with contextlib.suppress(asyncio.CancelledError):
            await worker.close()


async def test_by_command(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """A daemon does what a command has asked for, also after it was killed; a dry run says it and does nothing."""
    settings = login_settings(sandbox, redis_url, tmp_path / "data")
    stream = Keys("default").stream("orders")
    typo = ordersync("resync", "orders", "--all", "--account", "nope", cwd=tmp_path, **settings)
    assert (typo.returncode, "Known accounts: default" in typo.stderr) == (2, True)
    with redis.Redis.from_url(redis_url) as client:
        with Program(tmp_path, **settings) as program:
            await eventually(lambda: client.xlen(stream) == 50)
            await eventually(lambda: int(client.hget(Keys("default").cursor("orders"), "baseline") or 0))
            program.process.kill()
            await program.ended()
        (changed,) = sandbox.store.change(1)
        dry = ordersync("resync", "orders", "--all", "--dry-run", "--json", cwd=tmp_path, **settings)
        assert [each["id"] for each in json.loads(dry.stdout)] == [changed]
        assert client.xlen(stream) == 50
        asked = ordersync(
            "resync", "orders", "--all", "--force", "--json", cwd=tmp_path, redis__url=redis_url
        )
        name = json.loads(asked.stdout)["id"]
        with Program(tmp_path, **settings) as program:
            await program.logged("resync_done")
            listed = json.loads(ordersync("resyncs", "--json", cwd=tmp_path, redis__url=redis_url).stdout)
            assert [(row["id"], row["state"], row["share"], row["read"]) for row in listed] == [
                (name, "done", 1, 50)
            ]
            done = ordersync(
                "resync",
                "orders",
                "--id",
                changed,
                "--id",
                "NOPE",
                "--wait",
                cwd=tmp_path,
                redis__url=redis_url,
            )
            assert done.returncode == 1
            assert "not found: NOPE" in done.stdout
        # The poll of the second daemon may have been there first, with the one change.
        assert client.xlen(stream) in {100, 101}
    for content, words in ((b"\n \n", "contains no ids"), (b"\xff", "is not valid UTF-8")):
        (tmp_path / "ids").write_bytes(content)
        wrong = ordersync(
            "resync", "orders", "--all", "--ids-from", "ids", cwd=tmp_path, redis__url=redis_url
        )
        assert (wrong.returncode, words in wrong.stderr) == (2, True)
    wrong = ordersync("resync", "orders", cwd=tmp_path, redis__url=redis_url)
    assert wrong.returncode == 2
    assert "--id" in wrong.stderr
