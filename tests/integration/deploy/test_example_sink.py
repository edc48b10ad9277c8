"""The sink of deploy/examples into PostgreSQL: a row for each order, an effect for each event, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ordersync_consumer.dead import DeadLetters
from tests.support.commands import ordersync
from tests.support.generators import python_tools, ran
from tests.support.paths import ROOT
from tests.support.postgres import postgres
from tests.support.programs import Program, program_env, run_beside
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

EXAMPLE = ROOT / "deploy" / "examples" / "postgres.py"
STREAM = "ordersync:{default}:stream:orders"
ASK = "import json, psycopg, sys; print(json.dumps(psycopg.connect(sys.argv[1]).execute(sys.argv[2]).fetchall()))"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """An empty database."""
    with postgres() as running:
        yield running


async def test_postgres(
    bench: BenchMaker, redis_url: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again and again while orders change, are deleted and are delivered again: the table is the truth."""
    tools = str(await asyncio.to_thread(python_tools))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tools}")
    command = (
        sys.executable,
        str(EXAMPLE),
        redis_url,
        database,
        "--name",
        "worker-1",
        "--claim-after",
        "0.3",
    )

    async def rows(query: str) -> Any:
        said = await asyncio.to_thread(ran, sys.executable, "-c", ASK, database, query, cwd=tmp_path)
        return json.loads(said)

    with SandboxServer(orders=40) as shop:
        async with bench(shop) as b:

            async def progress(before: int) -> bool:
                return await acknowledged(b) > before

            await b.poll()
            for round_ in range(3):
                for number in range(10):
                    shop.store.change(1, status=f"Round {round_}.{number}")
                    await b.poll()
                with Program(tmp_path, *command) as running:
                    await eventually(partial(progress, await acknowledged(b)))
                    running.process.kill()
            # Somebody took events and went away; others are delivered again.
            (bad,) = shop.store.change(1, status="Odd")
            await b.poll()
            done = await run_beside(*command, "--refuse", "Odd", "--once", cwd=tmp_path, env=program_env())
            assert done.returncode == 0, done.stderr
            (letter,) = [each async for each in DeadLetters(b.redis, b.account.keys).each("orders")]
            assert (letter.subject, letter.reason) == (bad, "status Odd is not wanted here")
            again = ("replay", "--group", "postgres", "orders", "--since", "1h")
            assert ordersync("dead", "replay", "--all", cwd=tmp_path, redis__url=redis_url).returncode == 0
            assert ordersync(*again, cwd=tmp_path, redis__url=redis_url).returncode == 0
            done = await run_beside(*command, "--once", cwd=tmp_path, env=program_env())
            assert done.returncode == 0, done.stderr
            events = await b.events()
            truth = {subject: json.loads(record) for subject, record in shop.store.truth().items()}
    query = "SELECT id, record, version, deleted FROM orders"
    found = {subject: tuple(rest) for subject, *rest in await rows(query)}
    newest = {event.subject: event.version for event in events}
    assert found == {subject: (record, newest[subject], False) for subject, record in truth.items()}
    applied = await rows("SELECT event_id, order_id, version FROM order_changes")
    assert sorted(applied) == sorted([event.id, event.subject, event.version] for event in events)
    assert len({event_id for event_id, *_ in applied}) == len(applied) == len(events)


async def acknowledged(b: Any) -> int:
    """How many events the sink has finished."""
    found = await b.redis.xinfo_groups(STREAM)
    return sum(group["entries-read"] - group["pending"] for group in found if group["entries-read"])
