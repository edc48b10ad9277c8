"""The end of a daemon in the middle of a read, by one signal or by two: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.commands import ordersync
from tests.support.programs import Program, login_settings
from tests.support.waiting import eventually
from worker.keys import Keys
from worker.sandbox import FaultRule, SandboxServer

pytestmark = pytest.mark.anyio

KEYS = Keys("default")
STREAM, CURSOR, LEASE = KEYS.stream("orders"), KEYS.cursor("orders"), KEYS.lease("orders")
STALLED = 11
"""The page, as the gateway counts, at which a read is held up. The probe asks for none but the first ones."""


@pytest.fixture
def settings(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """A read of many small pages, one after the other."""
    small = {"api__page_size": "2", "api__max_concurrency": "1"}
    return login_settings(sandbox, redis_url, tmp_path / "data", **small)


def published(client: Any) -> list[tuple[str, str, Any]]:
    """Subject, version and record of every event, in order."""
    return [
        (fields[b"subject"].decode(), fields[b"version"].decode(), json.loads(fields[b"data"]))
        for _, fields in client.xrange(STREAM)
    ]


async def in_mid_read(client: Any) -> int:
    """Wait until the read is held up: so many events were committed before."""
    await eventually(lambda: int(client.hget(CURSOR, "sweep_page") or 0) == STALLED - 1)
    count = int(client.xlen(STREAM))
    assert count == 2 * (STALLED - 1)
    return count


def check_all_there_once(client: Any, sandbox: SandboxServer, changed: int) -> None:
    """Each order was published, its versions in order and without a gap, and its last event is what it is now."""
    events = published(client)
    assert len(events) == 50 + changed
    latest: dict[str, Any] = {}
    versions: dict[str, list[str]] = {}
    for subject, version, record in events:
        versions.setdefault(subject, []).append(version)
        latest[subject] = record
    assert latest == {key: json.loads(record) for key, record in sandbox.store.truth().items()}
    assert all(each == [str(n) for n in range(1, len(each) + 1)] for each in versions.values())


def finish_reading(settings: dict[str, str], folder: Path) -> None:
    """The next worker: it reads on where the last one ended, and then everything once more."""
    for _ in range(2):
        done = ordersync("run", "--once", cwd=folder, **settings)
        assert done.returncode == 0, done.stderr


async def test_one_signal_finishes_the_page_in_hand(
    sandbox: SandboxServer, settings: dict[str, str], redis_url: str, tmp_path: Path
) -> None:
    """The page that is under way is awaited and committed, the lease is free, and it ends within the grace time."""
    rule = FaultRule("delay", operation="orders.search", page=STALLED, seconds=8)
    sandbox.faults.replace((rule,))
    with (
        redis.Redis.from_url(redis_url) as client,
        Program(tmp_path, **settings, grace_seconds="40") as worker,
    ):
        before = await in_mid_read(client)
        worker.process.terminate()
        stopping = await worker.logged("stopping")
        assert int(client.xlen(STREAM)) == before
        assert await worker.ended() == 0
        assert int(client.hget(CURSOR, "sweep_page")) == STALLED
        assert int(client.xlen(STREAM)) == before + 2
        (line,) = worker.logs("poll_done")
        assert (line["outcome"], line["snapshot"]) == ("stopped", before + 2)
        assert [each["event"] for each in worker.logs()][-2:] == ["poll_done", "stopped"]
        assert not worker.logs("jobs_cut_short")
        assert stopping["grace_s"] == 40
        assert not client.hget(LEASE, "owner")
        assert not client.keys("arq:in-progress:*:poll:*")

        sandbox.faults.replace(())
        sandbox.store.change(50)
        finish_reading(settings, tmp_path)
        check_all_there_once(client, sandbox, changed=before + 2)


async def test_a_second_signal_loses_nothing(
    sandbox: SandboxServer, settings: dict[str, str], redis_url: str, tmp_path: Path
) -> None:
    """It ends at once, in the middle of a page that never comes; the next worker goes on where the commits end."""
    sandbox.faults.replace((FaultRule("hang", operation="orders.search", page=STALLED),))
    with (
        redis.Redis.from_url(redis_url) as client,
        Program(tmp_path, **settings, grace_seconds="600") as worker,
    ):
        before = await in_mid_read(client)
        worker.process.terminate()
        await worker.logged("stopping")
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 128 + signal.SIGTERM
        assert worker.logs()[-1]["event"] == "stopped_at_once"
        assert int(client.xlen(STREAM)) == before

        sandbox.faults.replace(())
        sandbox.store.change(50)
        client.hset(LEASE, "until", 0)  # as if its seconds were over
        finish_reading(settings, tmp_path)
        check_all_there_once(client, sandbox, changed=before)
