"""The consumers of deploy/examples, at work on real events: they lose none, whoever is killed."""

from __future__ import annotations

import gzip
import json
import os
import re
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from ordersync_consumer.dead import DeadLetters
from tests.support.commands import ordersync
from tests.support.node import example
from tests.support.paths import ROOT
from tests.support.programs import Program, program_env, run_beside
from tests.support.tools import program
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

EXAMPLES = ROOT / "deploy" / "examples"
STREAM = "ordersync:{default}:stream:orders"


async def pending(b: Bench) -> int:
    """How many events the group has taken and not acknowledged."""
    return int((await b.redis.xpending(STREAM, "warehouse"))["pending"])


async def killed_at_work(b: Bench, redis_url: str, folder: Path) -> int:
    """Somebody takes events for the group, works on them, and is killed. How many they were."""
    words = ("consume", "--group", "warehouse", "--name", "victim", "--batch", "5")
    command = (sys.executable, "-m", "worker.cli", *words, "--", "sh", "-c", "cat >> victim; sleep 60")
    with Program(folder, *command, redis__url=redis_url):
        await eventually(lambda: (folder / "victim").exists() and (folder / "victim").read_text())
    return await pending(b)


# --- Python -----------------------------------------------------------------------------------------------


def rows(database: Path) -> list[tuple[Any, ...]]:
    """The orders in the table of the example."""
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT id, record, version FROM orders").fetchall()
    connection.close()
    return found


async def test_python(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """The table is what OrderMesh has, after a kill as well, and each event was applied once."""
    database = tmp_path / "orders.db"
    command = (sys.executable, "-W", "error", str(EXAMPLES / "consumer.py"), redis_url, str(database))
    with Program(tmp_path, *command, "--name", "worker-1"):
        await eventually(lambda: database.exists() and database.stat().st_size > 0)
    polled.sandbox.store.change(3, status="Shipped")
    await polled.poll()
    done = await run_beside(*command, "--name", "worker-1", "--once", cwd=tmp_path, env=program_env())
    assert done.returncode == 0, done.stderr
    events = await polled.events()
    truth = polled.sandbox.store.truth()
    assert {subject: record.encode() for subject, record, _ in rows(database)} == truth
    newest = {event.subject: event.version for event in events}
    assert {subject: version for subject, _, version in rows(database)} == newest
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM ordersync_once").fetchone() == (len(events),)
    connection.close()
    assert await pending(polled) == 0


async def test_python_takes_over_and_sets_aside(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """What a consumer left that is gone for good is handled; an event that always fails becomes a dead letter."""
    database, bad = tmp_path / "orders.db", polled.sandbox.store.ids()[3]
    with sqlite3.connect(database) as connection:
        connection.execute(
            "CREATE TABLE orders (id TEXT PRIMARY KEY, entry_ms INTEGER, entry_number INTEGER, version INTEGER, "
            "record TEXT)"
        )
        connection.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON orders WHEN NEW.id = '{bad}' "
            "BEGIN SELECT RAISE(ABORT, 'not wanted here'); END"
        )
    connection.close()
    await polled.redis.xgroup_create(STREAM, "warehouse", id="0")
    ((_, left),) = await polled.redis.xreadgroup("warehouse", "gone", {STREAM: ">"}, count=5)
    ids = [entry for entry, _ in left]
    await polled.redis.xclaim(STREAM, "warehouse", "gone", 0, ids, idle=3_600_000)
    command = (sys.executable, "-W", "error", str(EXAMPLES / "consumer.py"), redis_url, str(database))
    done = await run_beside(*command, "--name", "worker-1", "--once", cwd=tmp_path, env=program_env())
    assert done.returncode == 0, done.stderr
    (letter,) = [each async for each in DeadLetters(polled.redis, polled.account.keys).each("orders")]
    assert (letter.subject, letter.group, letter.kind) == (bad, "warehouse", "delivery")
    assert "not wanted here" in letter.reason
    assert {subject for subject, _, _ in rows(database)} == set(polled.sandbox.store.truth()) - {bad}
    assert await pending(polled) == 0


# --- Node -------------------------------------------------------------------------------------------------


async def test_node_takes_over_what_a_killed_consumer_left(
    polled: Bench, redis_url: str, tmp_path: Path
) -> None:
    """With ioredis alone: what the other one had comes first, then the rest, each once and in order; all is done."""
    left = await killed_at_work(polled, redis_url, tmp_path)
    assert left > 0
    events = await polled.events()
    words = (redis_url, STREAM, "--consumer", "worker-2", "--claim-after", "300", "--json")
    command = example(tmp_path)
    await eventually(lambda: idle(polled, 300))
    done = await run_beside(*command, *words, "--events", str(len(events)), cwd=tmp_path, env=program_env())
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [event.id for event in events]
    assert await pending(polled) == 0
    # What is replayed for the group comes to it as well.
    again = ("replay", "--group", "warehouse", "orders", "--from", events[-2].entry_id)
    assert ordersync(*again, cwd=tmp_path, redis__url=redis_url).returncode == 0
    done = await run_beside(*command, *words, "--events", "2", cwd=tmp_path, env=program_env())
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [
        event.id for event in events[-2:]
    ]
    assert await pending(polled) == 0


async def idle(b: Bench, milliseconds: int) -> bool:
    """Whether nobody has touched what is pending for so long."""
    found = await b.redis.xpending_range(STREAM, "warehouse", "-", "+", 100)
    return all(each["time_since_delivered"] >= milliseconds for each in found)


async def test_node_reads_compressed_data(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """Where data is compressed the example unpacks it."""
    ((_, fields),) = await polled.redis.xrange(STREAM, count=1)
    await polled.redis.delete(STREAM)
    packed = {**fields, b"data": gzip.compress(fields[b"data"]), b"dataencoding": b"gzip"}
    await polled.redis.xadd(STREAM, packed)
    words = (redis_url, STREAM, "--events", "1", "--json")
    done = await run_beside(*example(tmp_path), *words, cwd=tmp_path, env=program_env())
    assert json.loads(done.stdout)["data"] == json.loads(fields[b"data"])


# --- shell ------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(redis_url: str) -> tuple[str, ...]:
    """The example in shell."""
    program("redis-cli")
    return ("sh", str(EXAMPLES / "consume.sh"), redis_url, STREAM, "warehouse")


async def test_shell(polled: Bench, redis_url: str, shell: tuple[str, ...], tmp_path: Path) -> None:
    """It takes over what a killed consumer left, lets go of what was removed, and acknowledges each event."""
    assert await killed_at_work(polled, redis_url, tmp_path) > 2
    events = await polled.events()
    await polled.redis.xdel(STREAM, events.pop(1).entry_id)
    await eventually(lambda: idle(polled, 300))
    env = program_env() | {"EVENTS": str(len(events)), "CLAIM_AFTER": "300"}
    work = 'printf "%s %s %s " "$ID" "$TYPE" "$SUBJECT"; cat'
    done = await run_beside(*shell, "worker-2", "sh", "-c", work, cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    told = [f"{event.id} {event.type} {event.subject} {event.data.decode()}" for event in events]
    assert done.stdout.splitlines() == told
    assert await pending(polled) == 0


async def test_shell_keeps_what_failed(polled: Bench, shell: tuple[str, ...], tmp_path: Path) -> None:
    """It ends with the exit code of the command, and begins with the same event the next time."""
    command = 'echo "$ID" >> tried; test -e again'
    env = program_env() | {"EVENTS": "1"}
    done = await run_beside(*shell, "worker-1", "sh", "-c", command, cwd=tmp_path, env=env)
    assert done.returncode == 1
    assert await pending(polled) == 1
    (tmp_path / "again").touch()
    done = await run_beside(*shell, "worker-1", "sh", "-c", command, cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    first = (await polled.events())[0]
    assert (tmp_path / "tried").read_text().split() == [first.id, first.id]
    assert await pending(polled) == 0


async def test_shell_makes_a_dead_letter(polled: Bench, shell: tuple[str, ...], tmp_path: Path) -> None:
    """The last permitted attempt does, as the kit writes it; the events behind it come, and nothing stays pending."""
    first, *others = await polled.events()
    command = f'[ "$ID" != "{first.id}" ] || exit 3; echo "$ID" >> done; cat > /dev/null'
    env = program_env() | {"EVENTS": "2", "MAX_DELIVERIES": "2"}
    done = await run_beside(*shell, "worker-1", "sh", "-c", command, cwd=tmp_path, env=env)
    assert (done.returncode, await pending(polled)) == (3, 1)
    done = await run_beside(*shell, "worker-1", "sh", "-c", command, cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "done").read_text().split() == [event.id for event in others[:2]]
    (letter,) = [each async for each in DeadLetters(polled.redis, polled.account.keys).each("orders")]
    assert (letter.subject, letter.attempts, letter.reason) == (first.subject, 2, "exit code 3")
    assert letter.event is not None
    assert (letter.event.id, letter.event.data) == (first.id, first.data)
    assert await pending(polled) == 0


async def test_shell_says_what_is_wrong(polled: Bench, shell: tuple[str, ...], tmp_path: Path) -> None:
    """Wrong use is exit 2; what it cannot hand over whole it does not hand over at all."""
    done = await run_beside(*shell, cwd=tmp_path, env=program_env())
    assert (done.returncode, done.stderr) == (
        2,
        "usage: consume.sh URL STREAM GROUP CONSUMER COMMAND [ARG]...\n",
    )
    ((_, fields),) = await polled.redis.xrange(STREAM, count=1)
    await polled.redis.delete(STREAM)
    await polled.redis.xadd(STREAM, {**fields, b"dataencoding": b"gzip"})
    done = await run_beside(*shell, "worker-1", "cat", cwd=tmp_path, env=program_env())
    assert (done.returncode, done.stdout) == (1, "")
    assert "the data is compressed: use `ordersync consume`" in done.stderr


# --- all of them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["python", "node", "shell"])
async def test_redis_loses_everything(
    bench: BenchMaker, redis_url: str, tmp_path: Path, request: pytest.FixtureRequest, language: str
) -> None:
    """Each example creates its group again, and handles everything that is published after the loss."""
    database = tmp_path / "orders.db"
    command: tuple[str, ...] = (sys.executable, str(EXAMPLES / "consumer.py"), redis_url, str(database))
    if language == "node":
        command = (*example(tmp_path), redis_url, STREAM, "--json")
    elif language == "shell":
        command = (*request.getfixturevalue("shell"), "worker-1", "sh", "-c", 'cat > /dev/null; echo "$ID"')

    def handled() -> set[str]:
        if language == "python":
            with sqlite3.connect(database) as connection:
                found = connection.execute("SELECT event_id FROM ordersync_once").fetchall()
            connection.close()
            return {event_id for (event_id,) in found}
        lines = running.out.splitlines()
        return {json.loads(line)["id"] for line in lines} if language == "node" else set(lines)

    with SandboxServer(orders=5) as few:
        async with bench(few) as b:
            await b.poll()
            with Program(tmp_path, *command) as running:
                before = {event.id for event in await b.events()}
                await eventually(lambda: database.exists() or language != "python")
                await eventually(lambda: database.stat().st_size > 0 if language == "python" else running.out)
                await eventually(lambda: handled() == before)
                await b.redis.flushall()
                few.store.change(3, note="after the loss")
                await b.poll()
                after = {event.id for event in await b.events()}
                assert len(after - before) == 5
                await eventually(lambda: handled() == before | after)
            if language == "python":
                assert {
                    subject: record.encode() for subject, record, _ in rows(database)
                } == few.store.truth()


@pytest.mark.parametrize("place", ["README.md", "docs/consume/command.md", "deploy/examples/consume.sh"])
async def test_the_one_line(polled: Bench, redis_url: str, tmp_path: Path, place: str) -> None:
    """The line of the documentation, as it is written, writes every event to a file."""
    (line,) = re.findall(
        r"ordersync (consume .* -- sh -c 'cat >> events\.jsonl')", (ROOT / place).read_text()
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = program_env(redis__url=redis_url) | {"PATH": path}
    command = f"ordersync {line.replace('consume', 'consume --once', 1)}"
    done = await run_beside("sh", "-c", command, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [event.id for event in await polled.events()]
    assert await pending(polled) == 0
