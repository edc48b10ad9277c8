"""`ordersync dead`: what could not be dealt with is seen, tried again, or dropped."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ordersync_consumer import Delivery
from tests.support.commands import ordersync
from tests.support.consuming import Stage
from tests.support.programs import program_env
from tests.support.streams import KEYS, STREAM
from tests.support.waiting import PATIENCE
from tests.support.worker import BenchMaker
from worker.errors import DataError
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio

DEAD = KEYS.dead("orders")


@dataclass(slots=True)
class Office:
    """Dead letters, and the commands for them."""

    stage: Stage
    url: str
    folder: Path

    def dead(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of `ordersync dead`."""
        return ordersync("dead", *words, cwd=self.folder, redis__url=self.url)

    def listed(self, *words: str) -> list[dict[str, Any]]:
        """The letters, as JSON."""
        done = self.dead("list", "--json", *words)
        assert (done.returncode, done.stderr) == (0, "")
        return list(json.loads(done.stdout))

    async def die(self, *subjects: str, group: str = "g", resource: str = "orders") -> list[str]:
        """Events that a group cannot deal with. The ids of their entries."""
        entries = await self.stage.add(*subjects, resource=resource, data=b'{"id":"a","note":"\xc3\xa9"}')

        async def handle(delivery: Delivery) -> None:
            raise ValueError(f"no {delivery.event.subject}")

        consumer = self.stage.consumer(group=group, resources=[resource], max_deliveries=1)
        async with consumer:
            await consumer.run(handle)
        return entries


@pytest.fixture
async def office(redis_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    client = connect(redis_url)
    yield Office(Stage(client), redis_url, tmp_path)
    await client.aclose()


async def test_list(office: Office) -> None:
    """Where each lies, whose it is, how often it was tried, how old it is, and why."""
    assert office.dead("list").stdout == "There are no dead letters.\n"
    (entry,) = await office.die("a")
    await office.die("b", group="h", resource="shipments")
    first, second = office.listed()
    assert {**first, "id": "", "time": "", "age_s": 0} == {
        "resource": "orders", "id": "", "kind": "delivery", "group": "g", "consumer": "c1", "subject": "a",
        "where": entry, "time": "", "age_s": 0, "attempts": 1, "reason": "ValueError: no a",
    }  # fmt: skip
    assert 0 <= first["age_s"] < 60
    assert (second["resource"], second["group"]) == ("shipments", "h")
    for words, found in (
        (("orders",), [first["id"]]),
        (("--group", "h"), [second["id"]]),
        (("--kind", "record"), []),
    ):
        assert [letter["id"] for letter in office.listed(*words)] == found
    head, line, _ = office.dead("list").stdout.splitlines()
    assert head.split() == ["resource", "id", "kind", "group", "subject", "attempts", "age", "reason"]
    assert line.split()[:6] == ["orders", first["id"], "delivery", "g", "a", "1"]
    assert line.endswith("ValueError: no a")


async def test_show(office: Office) -> None:
    """The reason with its trace, the event's attributes, and the record."""
    await office.die("a")
    (letter,) = await office.stage.letters()
    done = office.dead("show", letter.letter_id)
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    told = {name.strip(): value.strip() for name, value in lines.items()}
    assert (told["reason"], told["event id"], told["group"]) == (
        "ValueError: no a",
        "order:a:1:00000000",
        "g",
    )
    assert "Traceback (most recent call last):" in done.stdout
    assert done.stdout.splitlines()[-1] == '  {"id":"a","note":"é"}'
    whole = json.loads(office.dead("show", "orders", letter.letter_id, "--json").stdout)
    assert whole["data"] == {"id": "a", "note": "é"}
    assert whole["event"]["version"] == 1
    assert whole["trace"].startswith("Traceback")


async def test_replay_one(office: Office) -> None:
    """The event comes to its group again, marked; the letter is gone, and the log says what is left."""
    entries = await office.die("a", "b")
    first, second = await office.stage.letters()
    await asyncio.sleep(0.1)  # so that the age of the second one is not rounded to 0
    done = office.dead("replay", first.letter_id)
    assert (done.returncode, done.stdout) == (0, "1 dead letter replayed: 1 to group g\n")
    told = json.loads(done.stderr)
    assert (told["event"], told["resource"], told["letters"], told["left"]) == (
        "dead_letters_replayed",
        "orders",
        1,
        1,
    )
    assert 0 <= told["oldest_s"] < 60
    assert await office.stage.letters() == [second]
    words = ("consume", "--group", "g", "--once", "--", "cat")
    line = json.loads(ordersync(*words, cwd=office.folder, redis__url=office.url).stdout)
    assert (line["entry"], line["replayed"], line["attempt"]) == (first.where, True, 1)
    assert first.where in entries


async def test_replay_all(office: Office) -> None:
    """All of a group; what cannot come again stays, with the reason and what to do."""
    first, _ = await office.die("a; reboot", "b")
    await office.die(group="h")
    await office.stage.redis.xdel(STREAM, first)
    done = office.dead("replay", "--all", "orders", "--group", "g")
    assert done.returncode == 1
    assert done.stdout == "1 dead letter replayed: 1 to group g\n"
    assert "1 dead letter cannot be replayed:" in done.stderr
    assert f"entry {first} is not kept in the stream any more" in done.stderr
    assert "`ordersync resync orders --id 'a; reboot' --force`" in done.stderr  # ids are words of others
    assert sorted((letter.group, letter.subject) for letter in await office.stage.letters()) == [
        *(("g", "a; reboot"), ("h", "a; reboot"), ("h", "b")),
    ]
    assert list((await office.stage.pending()).values()) == [("ordersync-replay", 0)]


async def test_replay_of_a_record(bench: BenchMaker, redis_url: str, tmp_path: Path) -> None:
    """A record that could not be read is looked at again by the next read."""
    async with bench() as b:
        (subject,) = b.sandbox.store.create(1)
        good = b.sandbox.store.truth()[subject]
        b.sandbox.store.replace(subject, good[:-1] + b',"odd":"\xff"}')
        await b.poll()
        office = Office(Stage(b.redis), redis_url, tmp_path)
        (letter,) = office.listed("--kind", "record")
        assert (letter["subject"], letter["group"]) == (subject, None)
        shown = office.dead("show", letter["id"])
        assert (shown.returncode, shown.stdout.splitlines()[0].split()) == (0, ["resource", "orders"])
        done = office.dead("replay", "--all")
        assert done.stdout == "1 dead letter replayed: 1 to be read again by the next full scan\n"
        b.sandbox.store.replace(subject, good)
        await b.poll()
        assert [event.subject for event in await b.events()].count(subject) == 1
        assert office.listed() == []


async def test_a_record_of_which_nothing_was_kept(office: Office) -> None:
    """Without an id and, under a privacy policy, without data, it cannot be told which record it was: it stays."""
    fields = {
        "kind": "record",
        "reason": "x",
        "subject": "",
        "where": "orders.search page 1",
        "time": "",
        "size": "5",
    }
    letter_id = (await office.stage.redis.xadd(DEAD, dict(fields))).decode()  # type: ignore[arg-type] # invariant dict
    done = office.dead("replay", letter_id)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the dead letter cannot be matched to a record" in done.stderr
    assert len(await office.stage.letters()) == 1


async def test_drop(office: Office) -> None:
    """One or all, for good; without --yes only where somebody can be asked, and says so."""
    await office.die("a", "b", "c")
    first, *_ = await office.stage.letters()
    for words in (("drop", first.letter_id), ("drop", "--all")):
        done = office.dead(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Nothing was removed; pass --yes to confirm" in done.stderr
    assert len(await office.stage.letters()) == 3
    done = office.dead("drop", first.letter_id, "--yes")
    assert (done.returncode, done.stdout) == (0, "1 dead letter dropped\n")
    assert json.loads(done.stderr)["event"] == "dead_letters_dropped"
    assert answered(office, "dead", "drop", "--all", answer="n") == 130
    assert len(await office.stage.letters()) == 2
    assert answered(office, "dead", "drop", "--all", answer="y") == 0
    assert await office.stage.letters() == []
    assert office.dead("drop", "--all", "--yes").stdout == "0 dead letters dropped\n"
    assert await office.stage.redis.xlen(STREAM) == 3


def answered(office: Office, *words: str, answer: str) -> int:
    """The exit code of a command on a terminal where somebody answers its question."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "worker.cli", *words],
        cwd=office.folder,
        env=program_env(redis__url=office.url),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        os.write(ours, f"{answer}\n".encode())
        out, _ = process.communicate(timeout=PATIENCE)
    os.close(ours)
    os.close(theirs)
    assert b"permanently?" in out
    return process.returncode


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("list", "parcels"), 2, "Unknown resource 'parcels'"),
        (("show", "1-1"), 1, "Unknown dead letter 1-1. To list them: ordersync dead list"),
        (("replay",), 2, "Pass either the IDs of dead letters, or --all"),
    ],
)
async def test_wrong_use(office: Office, words: tuple[str, ...], code: int, told: str) -> None:
    """A sentence that says how it is meant."""
    done = office.dead(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr


async def test_one_id_in_two_resources(office: Office) -> None:
    """Then the resource must be named."""
    await office.die("a")
    ((letter_id, fields),) = await office.stage.redis.xrange(DEAD)
    await office.stage.redis.xadd(KEYS.dead("notes"), fields, id=letter_id)
    done = office.dead("show", letter_id.decode())
    assert done.returncode == 2
    assert "Write one of them before the ID: orders, notes" in done.stderr
    assert office.dead("drop", "notes", letter_id.decode(), "--yes").returncode == 0
    assert await office.stage.redis.xlen(DEAD) == 1


async def test_a_letter_of_somebody_else(office: Office) -> None:
    """What this program has not written is named, and nothing is done."""
    await office.stage.redis.xadd(DEAD, {"hello": "there"})
    done = office.dead("list")
    assert done.returncode == DataError.exit_status
    assert "was not written by ordermesh-sync" in done.stderr
