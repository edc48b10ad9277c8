"""Programs of other people read the events: `redis-cli`, a Node client, and the example of the page on events."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ordersync_consumer.envelope import FIELDS, Event
from tests.support.documentation import block, read
from tests.support.node import example
from tests.support.programs import program_env, run_beside
from tests.support.tools import program
from tests.support.worker import Bench

pytestmark = pytest.mark.anyio

STREAM = "ordersync:{default}:stream:orders"
DOCUMENTED = (
    *("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"),
    *("sequence", "version", "reason", "changed", "data"),
)


async def pending(b: Bench, group: str) -> int:
    """How many entries the group has taken and not acknowledged."""
    return int((await b.redis.xpending(STREAM, group))["pending"])


# --- redis-cli ------------------------------------------------------------------------------------------


@pytest.fixture
def redis_cli(redis_url: str) -> tuple[str, ...]:
    """The command, with the address of the server; its output is raw, a value a line."""
    program("redis-cli")
    return ("redis-cli", "-u", redis_url, "--raw")


async def test_plain_xread(polled: Bench, redis_cli: tuple[str, ...], tmp_path: Path) -> None:
    """Every entry has the documented fields in the documented order, and under `data` the record as served."""
    command = (*redis_cli, "XREAD", "STREAMS", STREAM, "0")
    done = await run_beside(*command, cwd=tmp_path, env=program_env())
    assert (done.returncode, done.stderr) == (0, "")
    stream, *lines = done.stdout.splitlines()
    size = 1 + 2 * len(DOCUMENTED)
    entries = [lines[at : at + size] for at in range(0, len(lines), size)]
    events = await polled.events()
    truth = polled.sandbox.store.truth()
    assert stream == STREAM
    assert [entry[0] for entry in entries] == [event.entry_id for event in events]
    assert {tuple(entry[1::2]) for entry in entries} == {DOCUMENTED}
    newest = {entry[10]: entry[26] for entry in entries}
    assert {subject: data.encode() for subject, data in newest.items()} == truth
    assert [json.loads(entry[26])["id"] for entry in entries] == [event.subject for event in events]


async def test_a_group_in_redis_cli(polled: Bench, redis_cli: tuple[str, ...], tmp_path: Path) -> None:
    """A group hands out each entry once; one that is acknowledged is no longer pending."""

    async def say(*words: str) -> list[str]:
        done = await run_beside(*redis_cli, *words, cwd=tmp_path, env=program_env())
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    first, second = (await polled.events())[:2]
    assert await say("XGROUP", "CREATE", STREAM, "g", "0") == ["OK"]
    read = ("XREADGROUP", "GROUP", "g", "me", "COUNT", "1", "STREAMS", STREAM, ">")
    assert (await say(*read))[1] == first.entry_id
    assert (await say(*read))[1] == second.entry_id
    assert await say("XACK", STREAM, "g", first.entry_id) == ["1"]
    assert (await say("XPENDING", STREAM, "g"))[:2] == ["1", second.entry_id]


# --- Node -----------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> tuple[str, ...]:
    """The command that runs the example."""
    return example(tmp_path)


async def read_with_node(
    node: tuple[str, ...], redis_url: str, events: int, tmp_path: Path
) -> list[dict[str, object]]:
    """What the example prints for so many events."""
    command = (*node, redis_url, STREAM, "--events", str(events), "--json")
    done = await run_beside(*command, cwd=tmp_path, env=program_env())
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_node_reads_all_in_order(
    polled: Bench, redis_url: str, node: tuple[str, ...], tmp_path: Path
) -> None:
    """With ioredis a program reads the documented fields in order; the data parses; everything is acknowledged."""
    events = await polled.events()
    read = await read_with_node(node, redis_url, len(events), tmp_path)
    assert {tuple(event) for event in read} == {DOCUMENTED}
    assert [event["id"] for event in read] == [event.id for event in events]
    assert [event["data"] for event in read] == [json.loads(event.data) for event in events]
    assert await pending(polled, "warehouse") == 0


async def test_node_takes_up_what_was_left(
    polled: Bench, redis_url: str, node: tuple[str, ...], tmp_path: Path
) -> None:
    """What the consumer had taken and not acknowledged comes first, then what is new; nothing comes again."""
    events = await polled.events()
    await polled.redis.xgroup_create(STREAM, "warehouse", id="0")
    await polled.redis.xreadgroup("warehouse", "worker-1", {STREAM: ">"}, count=3)
    read = await read_with_node(node, redis_url, 5, tmp_path)
    assert [event["id"] for event in read] == [event.id for event in events[:5]]
    assert await pending(polled, "warehouse") == 0
    (following,) = await read_with_node(node, redis_url, 1, tmp_path)
    assert following["id"] == events[5].id


async def test_node_lets_go_of_what_was_removed(
    polled: Bench, redis_url: str, node: tuple[str, ...], tmp_path: Path
) -> None:
    """An entry that was removed after it had been taken is acknowledged, and reading goes on."""
    await polled.redis.xgroup_create(STREAM, "warehouse", id="0")
    ((_, ((entry, _),)),) = await polled.redis.xreadgroup("warehouse", "worker-1", {STREAM: ">"}, count=1)
    await polled.redis.xdel(STREAM, entry)
    (read,) = await read_with_node(node, redis_url, 1, tmp_path)
    assert read["id"] == (await polled.events())[0].id
    assert await pending(polled, "warehouse") == 0


async def test_node_without_a_stream_says_how_to_call_it(node: tuple[str, ...], tmp_path: Path) -> None:
    """Wrong use is exit 2 with a line on how it is meant."""
    for arguments in ((), ("redis://127.0.0.1:1/0", STREAM, "--events", "none")):
        done = await run_beside(*node, *arguments, cwd=tmp_path, env=program_env())
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("usage: node read.mjs URL STREAM")


# --- the page on events --------------------------------------------------------------------------------


def documented_example(redis_url: str, rounds: int) -> str:
    """The consumer of the page as written, at the server of the test and with an end."""
    code = block("docs/consume/events.md", "python")
    for written, here in (
        ("redis.Redis(", f"redis.Redis.from_url({redis_url!r}, "),
        ("while True:", f"for _ in range({rounds}):"),
        ("block=5000", "block=50"),
    ):
        assert code.count(written) == 1
        code = code.replace(written, here)
    return code


def printed(events: list[Event]) -> list[str]:
    """The lines that the example prints for these events."""
    return [f"{event.type} {event.subject} {','.join(event.changed)}" for event in events]


async def test_the_example_of_the_page(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """It prints every event once and in order, what it had not finished before first, and acknowledges all."""
    events = await polled.events()
    await polled.redis.xgroup_create(STREAM, "warehouse", id="0")
    await polled.redis.xreadgroup("warehouse", "worker-1", {STREAM: ">"}, count=7)
    command = (sys.executable, "-W", "error", "-c", documented_example(redis_url, 4))
    done = await run_beside(*command, cwd=tmp_path, env=program_env())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == printed(events)
    assert await pending(polled, "warehouse") == 0


async def test_the_example_again(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """It makes the group itself; started again it goes on behind what it has acknowledged."""
    command = (sys.executable, "-W", "error", "-c", documented_example(redis_url, 3))
    first = await run_beside(*command, cwd=tmp_path, env=program_env())
    before = await polled.events()
    assert first.stdout.splitlines() == printed(before)
    polled.sandbox.store.create(2)
    await polled.poll()
    second = await run_beside(*command, cwd=tmp_path, env=program_env())
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout.splitlines() == printed((await polled.events())[len(before) :])


def test_the_page_names_the_fields() -> None:
    """The code keeps to the documented order, and the page describes every field, in that order."""
    assert FIELDS == DOCUMENTED
    rows = [
        line.split("`")[1] for line in read("docs/consume/events.md").splitlines() if line.startswith("| `")
    ]
    assert tuple(rows) == DOCUMENTED
