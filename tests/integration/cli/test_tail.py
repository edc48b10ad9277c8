"""`ordersync tail`: events as lines for people and for programs, from a place on, and as they come."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import msgspec
import pytest
import redis

from ordersync_consumer.envelope import FIELDS
from ordersync_consumer.groups import written_at
from tests.support.commands import each_of, ordersync
from tests.support.programs import Program
from tests.support.waiting import eventually
from tests.support.worker import Bench
from worker.clock import rfc3339

pytestmark = pytest.mark.anyio


STREAM = "ordersync:{default}:stream:orders"


async def test_tail_for_people(first_read: Bench, redis_url: str, tmp_path: Path) -> None:
    """A line an event; the last ten without being told, `-n` of them, or all from a place on."""
    newest = (await first_read.events())[-1]
    counts: dict[tuple[str, ...], int] = {
        (): 10, ("-n", "3"): 3, ("-n", "0"): 0, ("--from", "0"): 50, ("--from", newest.entry_id): 0,
        ("--from", "1d"): 50, ("--from", rfc3339(written_at(newest.entry_id) + 0.002)): 0, ("-n", "1"): 1,
    }  # fmt: skip
    commands = [("tail", "orders", "--no-follow", *arguments) for arguments in counts]
    answers = each_of(commands, tmp_path, redis__url=redis_url)
    assert [len(done.stdout.splitlines()) for done in answers] == list(counts.values())
    assert {done.returncode for done in answers} == {0}
    number = f"({json.loads(newest.data)['shortId']})"
    assert answers[-1].stdout.split()[:5] == [newest.time, "snapshot", newest.subject, number, "v1"]


def test_tail_of_what_has_no_events(redis_url: str, tmp_path: Path) -> None:
    """It says so, beside the output, unless no past event was asked for."""
    said = {("orders",): "Redis has no event of orders yet.\n", ("-n", "0"): "", ("--from", "2h"): ""}
    for arguments, words in said.items():
        done = ordersync("tail", "--no-follow", *arguments, cwd=tmp_path, redis__url=redis_url)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", words)


@pytest.mark.parametrize("shown", ["1", "10"])
async def test_tail_shows_how_the_status_changed(
    first_read: Bench, redis_url: str, tmp_path: Path, shown: str
) -> None:
    """The old status comes from an older event, which need not be among those that are shown."""
    order = first_read.sandbox.store.ids()[0]
    before = json.loads(first_read.sandbox.store.truth()[order])["status"]
    for status in ("On Hold", "In Production"):
        first_read.sandbox.store.change(order, status=status)
        await first_read.poll()
    done = ordersync("tail", "-n", shown, "--no-follow", cwd=tmp_path, redis__url=redis_url)
    lines = done.stdout.splitlines()
    assert "v3  status On Hold -> In Production" in lines[-1]
    if shown != "1":
        assert f"v2  status {before} -> On Hold" in lines[-2]


async def test_tail_shows_a_status_whose_old_value_is_gone(
    first_read: Bench, redis_url: str, tmp_path: Path
) -> None:
    """Where retention has removed the older event, only the new status is shown."""
    first_read.sandbox.store.change(first_read.sandbox.store.ids()[0], status="On Hold")
    await first_read.poll()
    await first_read.redis.xtrim(STREAM, maxlen=1, approximate=False)
    done = ordersync("tail", "--no-follow", cwd=tmp_path, redis__url=redis_url)
    assert "v2  status -> On Hold" in done.stdout


async def test_tail_as_json_lines(first_read: Bench, redis_url: str, tmp_path: Path) -> None:
    """All attributes, and under `data` the record byte for byte as it was served."""
    done = ordersync("tail", "--json", "--no-follow", "--from", "0", cwd=tmp_path, redis__url=redis_url)
    lines = done.stdout.encode().splitlines()
    truth = first_read.sandbox.store.truth()
    assert len(lines) == 50
    for line in lines:
        fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        subject = msgspec.json.decode(fields["subject"])
        assert {"entry", "resource", *FIELDS} == set(fields)
        assert bytes(fields["data"]) == truth[subject]


async def test_a_record_with_line_breaks_stays_one_line(
    first_read: Bench, redis_url: str, tmp_path: Path
) -> None:
    """A server may write its JSON in many lines; between tokens a break and a space are the same."""
    ((_, fields),) = await first_read.redis.xrevrange(STREAM, count=1)
    await first_read.redis.xadd(STREAM, {**fields, b"data": b'{\r\n "id": "a",\n "b": "c\\nd"\n}'})
    done = ordersync("tail", "--json", "--no-follow", "-n", "1", cwd=tmp_path, redis__url=redis_url)
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["data"] == {"id": "a", "b": "c\nd"}


async def test_tail_goes_on_past_what_is_no_event(first_read: Bench, redis_url: str, tmp_path: Path) -> None:
    """An entry that another program wrote is named and left out, at the end and among others."""
    events = len(await first_read.events())
    await first_read.redis.xadd(STREAM, {"made": "by another"})
    for words in (("--from", "0"), ("-n", str(events + 1))):
        done = ordersync("tail", *words, "--no-follow", cwd=tmp_path, redis__url=redis_url)
        assert (done.returncode, len(done.stdout.splitlines())) == (0, events)
        assert done.stderr.startswith("Left out: ")
        assert "Traceback" not in done.stderr


async def test_tail_follows_until_ctrl_c(first_read: Bench, redis_url: str, tmp_path: Path) -> None:
    """New events appear as they come; with `-n 0` nothing else. Ctrl-C is a good end."""
    command = (sys.executable, "-m", "worker.cli", "tail", "--json", "-n", "0")
    changed: list[str] = []
    with Program(tmp_path, *command, redis__url=redis_url) as program:

        async def something_is_shown() -> str:
            """Until it has begun to look, one change after the other."""
            changed.extend(first_read.sandbox.store.change(1))
            await first_read.poll()
            await asyncio.sleep(0.2)
            return program.out

        await eventually(something_is_shown)
        shown = [json.loads(line)["subject"] for line in program.out.splitlines()]
        assert shown == changed[-len(shown) :]
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0
        assert "Traceback" not in program.err


async def test_several_accounts(first_read: Bench, redis_url: str, tmp_path: Path) -> None:
    """One is taken without a word; of several the one of the settings, else one must be named."""
    base = ("tail", "--no-follow", "-n", "1")
    assert ordersync(*base, cwd=tmp_path, redis__url=redis_url, account="other").returncode == 0
    await first_read.redis.sadd("ordersync:accounts", "eu")
    mine, named, unknown = each_of(
        [base, (*base, "--account", "default"), (*base, "--account", "us")], tmp_path, redis__url=redis_url
    )
    assert mine.stdout == named.stdout != ""
    assert unknown.returncode == 2
    assert "Known accounts: default, eu" in unknown.stderr
    done = ordersync(*base, cwd=tmp_path, redis__url=redis_url, account="other")
    assert done.returncode == 2
    assert "--account with one of: default, eu" in done.stderr


def test_an_entry_of_another_hand(redis_url: str, tmp_path: Path) -> None:
    """The entry is named, with what to do; a key of another type is an error."""
    with redis.Redis.from_url(redis_url) as client:
        entry = client.xadd(STREAM, {"a": "b"})
        done = ordersync("tail", "--no-follow", cwd=tmp_path, redis__url=redis_url)
        assert (done.returncode, done.stdout) == (0, "")
        assert isinstance(entry, bytes)
        assert entry.decode() in done.stderr
        client.set(STREAM, "x") if client.delete(STREAM) else None
        done = ordersync("tail", "--no-follow", cwd=tmp_path, redis__url=redis_url)
    assert done.returncode == 3
    assert "WRONGTYPE" in done.stderr
    assert "Traceback" not in done.stderr
