"""Twelve accounts and two daemons, by counts and not by seconds; `make scale` measures any number of both."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from ordersync_consumer import tail as stream
from tests.bench.fleet import RESOURCES, account_names, complaints, write_accounts
from tests.support.monitored import watched
from tests.support.programs import Program
from tests.support.tally import Tally
from tests.support.waiting import eventually
from worker.keys import KeySpace
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer

pytestmark = pytest.mark.anyio

KEYS = {name: KeySpace().of(name) for name in account_names(12)}
LISTS = ("orders", "shipments")
EVERY = 5.0
WATCHED = 100
"""Polls for which commands are counted."""
PER_POLL, PER_SECOND = 3, 50
"""Commands that may be sent for each poll that is due, and beyond these by each daemon in a second."""
OF_ACCOUNT = 3.3
"""Of these, with the account's own keys: 3 for a list and 2 for audit logs, and more where the machine is busy."""
PER_REPORT = len(RESOURCES) + 6
"""Commands with which a daemon tells how the resources of an account are, by the clock and not by polls."""
BY_TIME = re.compile(r"FCALL |HGET \S+:cursor:|GET \S+:last:|HMGET \S+:paused |EVALSHA \S+ \d+ \S+:budget ")
"""Commands of accounts that come with retention, and while a gateway takes long to answer."""
OF_THE_HOST = {"worker_was_frozen"}
"""What says that the machine had no time for a daemon, and nothing about the daemon."""


@pytest.fixture
def daemons(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> Iterator[list[Program]]:
    """Two daemons with the same accounts, which start together."""
    listed = tmp_path / "accounts.toml"
    write_accounts(listed, list(KEYS), every=EVERY, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    settings = {
        "api__base_url": sandbox.url,
        "redis__url": redis_url,
        "accounts_file": str(listed),
        "reconcile__every": "0",
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(Program(tmp_path, **settings, data_dir=str(tmp_path / name)))
            for name in ("one", "two")
        ]


def ended(daemons: list[Program]) -> int:
    """How many polls have ended. This takes the test, whose process has the sandbox too, no time to speak of."""
    return sum(daemon.err.count('"poll_done"') for daemon in daemons)


def polls(*daemons: Program) -> Counter[tuple[str, str]]:
    """How many polls have ended, by account and resource."""
    lines = [line for daemon in daemons for line in daemon.logs("poll_done")]
    return Counter((line["account"], line["resource"]) for line in lines)


async def tell_all_once(client: Redis, sandbox: SandboxServer) -> bool:
    """Whether the events of every account tell the truth of the sandbox; no record may be told twice as it is."""
    whole = True
    for keys in KEYS.values():
        for resource in LISTS:
            tally = Tally()
            async for event in stream.follow(client, keys.stream(resource), "0", wait=False):
                tally.take(event)
            assert (tally.twice, tally.redelivered) == ([], 0)
            whole = whole and not tally.missing(sandbox.world.truth(resource))
    return whole


@pytest.mark.slow
async def test_two_daemons_share_what_many_accounts_take(
    daemons: list[Program], sandbox: SandboxServer, client: Redis
) -> None:
    """One probe of each list for all, every record and change once, and few commands for each poll."""
    every = {(account, resource) for account in KEYS for resource in RESOURCES}
    await eventually(lambda: ended(daemons) >= len(every) and polls(*daemons).keys() == every)
    assert await tell_all_once(client, sandbox)
    probed = [line["resource"] for daemon in daemons for line in daemon.logs("contract_probed")]
    assert sorted(probed) == sorted(LISTS)
    # A probe reads one record of a list by its id, and nothing else does so while nothing changes.
    assert [sandbox.requests.count(f"{resource}.get") for resource in LISTS] == [1, 1]
    assert sandbox.requests.count("clients.token") == len(KEYS)

    async with watched(client) as commands:
        began, first = time.monotonic(), ended(daemons)
        before = [polls(daemon) for daemon in daemons]
        await eventually(lambda: ended(daemons) - first >= WATCHED)
        polled = [(polls(daemon) - then).total() for daemon, then in zip(daemons, before, strict=True)]
        took = time.monotonic() - began
    assert min(polled) > 0
    sent = [line for line in commands.lines if not BY_TIME.match(line)]
    reports = sum(line.startswith("SET ") and "}:worker:" in line for line in sent)
    of_polls = sum("ordersync:{" in line for line in sent) - PER_REPORT * reports
    assert of_polls / sum(polled) <= OF_ACCOUNT
    assert len(sent) <= PER_POLL * sum(polled) + PER_SECOND * len(daemons) * took

    changed = {
        "orders": sandbox.store.create(2) + sandbox.store.change(2),
        "shipments": sandbox.world.shipments.change(2),
    }
    assert all(changed.values())
    await eventually(lambda: tell_all_once(client, sandbox))
    for daemon in daemons:
        daemon.process.terminate()
    assert [await daemon.ended() for daemon in daemons] == [0, 0]
    assert await tell_all_once(client, sandbox)
    said = {event for daemon in daemons for event in complaints(daemon.err.splitlines())}
    assert said <= OF_THE_HOST
