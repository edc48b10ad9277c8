"""Settings that say which fields are ignored change: consumers get what they lack, once, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ordersync_consumer.envelope import Event
from tests.support.commands import ordersync
from tests.support.programs import login_settings
from tests.support.servers import Server
from tests.support.worker import Bench, BenchContext, BenchMaker
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import ResyncRequest
from worker.config.sections import EventSettings, InterestSettings, PrivacySettings
from worker.sandbox import SandboxServer, ServedContract

pytestmark = pytest.mark.anyio

STATUS = {"orders": ("status",)}


async def changes(b: Bench, known: int) -> dict[str, set[str]]:
    """What each event after the first `known` ones says has changed."""
    return {event.subject: set(event.changed) for event in (await b.events())[known:]}


@pytest.mark.parametrize("contract", [{}, {"since_honoured": True, "sort_honoured": True}])
async def test_a_field_that_is_no_longer_ignored(bench: BenchMaker, contract: dict[str, Any]) -> None:
    """What changed in it meanwhile is published with the next full scan, once; no other record is."""
    with SandboxServer(orders=50, contract=ServedContract(**contract)) as sandbox:
        ids = sandbox.store.ids()
        async with bench(sandbox, probe=True, ignore_fields=STATUS) as b:
            await b.poll(complete=True)
            sandbox.store.change_silently(ids[3], status="Odd")
            sandbox.store.change_silently(ids[4], status="Odd", safeId="OTHER")
            assert (await b.poll(complete=True)).published == 1
            assert await changes(b, 50) == {ids[4]: {"safeId"}}
        async with bench(sandbox, probe=True) as b:
            await b.poll(complete=True)
            assert await changes(b, 51) == {ids[3]: {"status"}}
            last = (await b.events())[-1]
            assert (last.action, last.version, last.data) == ("updated", 2, sandbox.store.truth()[ids[3]])
            run = await b.poll(complete=True)
            assert (run.published, run.noise, run.unchanged) == (0, 0, 50)


async def test_a_field_that_is_newly_ignored(bench: BenchMaker) -> None:
    """The setting publishes nothing; a change that nobody has seen before it is none any more, until it ends."""
    async with bench() as b:
        await b.poll()
        (one,) = b.sandbox.store.ids()[7:8]
        b.sandbox.store.change_silently(one, status="Odd")
    async with bench(ignore_fields=STATUS) as b:
        run = await b.poll(complete=True)
        assert (run.published, run.noise) == (0, 50)
        assert (await b.poll(complete=True)).unchanged == 50
    async with bench(ignore_fields={"orders": ("safeId",)}) as b:
        assert (await b.poll(complete=True)).published == 1
        assert await changes(b, 50) == {one: {"status"}}


async def test_old_values_of_a_field_that_was_ignored(bench: BenchMaker) -> None:
    """They are those that consumers have."""
    events = EventSettings(previous=True)
    async with bench(ignore_fields=STATUS, events=events) as b:
        await b.poll()
        (one,) = b.sandbox.store.ids()[7:8]
        before = json.loads(b.sandbox.store.truth()[one])["status"]
        for status in ("Odd", "Odder"):
            b.sandbox.store.change_silently(one, status=status)
            assert (await b.poll(complete=True)).published == 0
    async with bench(events=events) as b:
        await b.poll(complete=True)
        last = (await b.events())[-1]
        assert (last.changed, json.loads(last.data)["status"]) == (("status",), "Odder")
        assert json.loads(last.previous or "{}") == {"status": before}


async def test_other_settings_of_events_publish_nothing(bench: BenchMaker) -> None:
    """Compression, old values, and rules for parts of a field apply from the next event on."""
    masked = PrivacySettings(fields={"orders": {"externalId": "mask", "shippingAddress.email": "drop"}})
    compressed, previous = EventSettings(compress_above=1), EventSettings(previous=True)
    async with bench() as b:
        assert (await b.poll()).published == 50
    for options in ({"events": compressed}, {"events": previous}, {"privacy": masked}, {}):
        async with bench(**options) as b:
            run = await b.poll(complete=True)
            assert (run.published, run.unchanged) == (0, 50)


async def test_a_policy_that_drops_a_field_no_longer(bench: BenchMaker) -> None:
    """Records that changed in it meanwhile are published with it. The others get it with their next event."""
    policy = PrivacySettings(fields={"orders": {"externalId": "drop"}})
    async with bench(privacy=policy) as b:
        await b.poll()
        one, other = b.sandbox.store.ids()[7:9]
        b.sandbox.store.change_silently(one, externalId="changed")
        assert (await b.poll(complete=True)).noise == 1
    async with bench() as b:
        await b.poll(complete=True)
        assert await changes(b, 50) == {one: {"externalId"}}
        b.sandbox.store.change_silently(other, status="Odd")
        await b.poll(complete=True)
        last = (await b.events())[-1]
        assert last.changed == ("status",)
        assert last.data == b.sandbox.store.truth()[other]
        assert (await b.poll(complete=True)).unchanged == 50


async def test_a_scope_that_changes_after_a_policy(bench: BenchMaker) -> None:
    """Comparing all records again publishes none of them because a policy that dropped a field has ended."""
    with SandboxServer(orders=30) as sandbox:
        statuses = {json.loads(raw)["status"] for raw in sandbox.store.truth().values()}
        everything = InterestSettings(statuses={"orders": tuple(statuses)})
        async with bench(sandbox, privacy=PrivacySettings(fields={"orders": {"externalId": "drop"}})) as b:
            await b.poll()
        async with bench(sandbox, interest=everything) as b:
            assert (await b.poll(complete=True)).published == 0


async def test_workers_that_ignore_other_fields_at_the_same_time(bench: BenchMaker) -> None:
    """Each publishes what it does not ignore; neither undoes nor repeats what the other one has published."""
    async with bench(ignore_fields=STATUS) as one, bench(ignore_fields={"orders": ("safeId",)}) as two:
        await one.poll()
        order = one.sandbox.store.ids()[3]
        for number in range(3):
            one.sandbox.store.change_silently(order, status=f"Odd {number}", safeId=f"S{number}")
            assert (await one.poll(complete=True)).published == 1
            assert (await two.poll(complete=True)).published == 0
            one.sandbox.store.change_silently(order, status=f"Odder {number}")
            assert (await one.poll(complete=True)).published == 0
            assert (await two.poll(complete=True)).published == 1
            assert (await one.poll(complete=True)).published == 0
        events = [event for event in await one.events() if event.subject == order]
        assert [set(event.changed) for event in events[1:]] == [{"safeId"}, {"status"}] * 3


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("everything", [False, True])
async def test_a_resync_under_other_settings(bench: BenchMaker, force: bool, everything: bool) -> None:
    """It compares as a scan does, so it publishes what consumers lack, and names what has changed."""
    async with bench(probe=True, ignore_fields=STATUS) as b:
        await b.poll()
        one, other = b.sandbox.store.ids()[3:5]
        b.sandbox.store.change_silently(one, status="Odd")
        await b.poll(complete=True)
    async with bench(probe=True) as b:
        ids = () if everything else (one, other)
        wanted = ResyncRequest(resource="orders", ids=ids, all=everything, force=force)
        name = (await b.account.resyncer.resyncs.create(wanted, b.services.clock.now())).id
        while await b.account.resyncer.resyncs.open():
            await b.account.resyncer.slice(ORDERS, name)
        read = b.sandbox.store.ids() if everything else [one, other]
        expected = {one: {"status"}} | ({key: set[str]() for key in {*read} - {one}} if force else {})
        assert await changes(b, 50) == expected
        run = await b.poll(complete=True)
        assert run.published == 0


def test_in_the_program(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """`ordersync run --once` with the setting, and then without it."""
    served = login_settings(sandbox, redis_url, tmp_path)
    ignoring = {**served, "poll__ignore_fields": '{"orders": ["status"]}'}
    one = sandbox.store.ids()[3]
    for options in (ignoring, ignoring, served, served):
        run = ordersync("run", "--once", "--no-wait", cwd=tmp_path, **options)
        assert run.returncode == 0, run.stderr
        sandbox.store.change_silently(one, status="Odd")
    tail = ordersync("tail", "orders", "--json", "--no-follow", "--from", "0", cwd=tmp_path, **served)
    events = [json.loads(line) for line in tail.stdout.splitlines()]
    assert [each["changed"] for each in events if each["subject"] == one] == ["", "status"]
    assert len(events) == 51


# Any sequence of settings and changes

FIELDS = ("externalId", "safeId", "status")


class Consumer:
    """The records as they were when they were published last, held against what is served."""

    def __init__(self, sandbox: SandboxServer) -> None:
        self._sandbox, self._told = sandbox, dict[str, Any]()

    def lacking(self, hidden: Iterable[str]) -> dict[str, set[str]]:
        """The records that differ from what was published in a field that is not hidden, and in which fields."""
        found = {}
        for key, raw in self._sandbox.store.truth().items():
            known, served = self._told.get(key), json.loads(raw)
            names = {name for name in served if known is not None and served[name] != known.get(name)}
            if known is None or names - {*hidden}:
                found[key] = names - {*hidden}
        return found

    def take(self, events: list[Event], expected: dict[str, set[str]]) -> None:
        """The events are those that are expected, each once."""
        assert {event.subject: set(event.changed) for event in events} == expected
        assert len(events) == len(expected)
        for event in events:
            self._told[event.subject] = json.loads(self._sandbox.store.truth()[event.subject])


async def live(seed: int, url: str) -> None:
    """A life in which settings and orders change, with a full scan after each."""
    rng = Random(seed)
    with SandboxServer(orders=rng.randint(1, 8), seed=seed) as sandbox:
        consumer, known = Consumer(sandbox), 0
        for life in range(6):
            some = [name for name in FIELDS if rng.random() < 0.4]
            dropped = [name for name in FIELDS if rng.random() < 0.2]
            options: dict[str, Any] = {"page_size": rng.choice([2, 5, 50]), "attempts": 1}
            if life < 5:
                options["ignore_fields"] = {"orders": tuple(some)}
                options["privacy"] = PrivacySettings(fields={"orders": dict.fromkeys(dropped, "drop")})
            hidden = {*some, *dropped} if life < 5 else set()
            async with BenchContext(sandbox, url, options) as b:
                for _ in range(rng.randint(1, 3)):
                    expected = consumer.lacking(hidden)
                    assert (await b.poll(complete=True)).outcome == "complete"
                    events = await b.events()
                    consumer.take(events[known:], expected)
                    known = len(events)
                    for order in sandbox.store.ids():
                        if rng.random() < 0.4:
                            names = rng.sample(FIELDS, rng.randint(1, 2))
                            values = {name: rng.choice(["this", "that"]) for name in names}
                            sandbox.store.change_silently(order, **values)
                    if rng.random() < 0.3:
                        sandbox.store.reorder_keys(2)


@settings(
    max_examples=12,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**6))
def test_consumers_get_what_they_lack_and_nothing_else(seed: int, shared_server: Server) -> None:
    """Under any sequence of settings and changes; in the end nothing is hidden, and nothing is lacking."""
    with redis.Redis.from_url(shared_server.url) as client:
        client.flushall()
    anyio.run(live, seed, shared_server.url)
