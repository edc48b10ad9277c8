"""`ordersync consume`: events go to any command, and none is lost, whatever the command does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from ordersync_consumer.envelope import FIELDS
from tests.support.commands import ordersync
from tests.support.consume_command import Shop, subjects
from tests.support.programs import ordersync_process, program_env, run_beside
from tests.support.streams import STREAM

pytestmark = pytest.mark.anyio

LINE = {"resource", "entry", "attempt", "replayed", *FIELDS}
BAD = """while read -r line; do case $line in *'"subject":"bad"'*) echo "no bad ones" >&2; exit 7;; esac
    printf '%s\\n' "$line"; done"""
"""A command that shows what it is given, and refuses events of the entity `bad`."""
REFUSES = """while read -r line; do entry=${line#*'"entry":"'}; echo "fail ${entry%%\\"*} no"; done"""
"""A command that stays, and refuses every event."""


# --- what a command gets ----------------------------------------------------------------------------------


async def test_the_lines(shop: Shop) -> None:
    """A line for each event, in order: where it stands, its attributes, and the record as it was served."""
    data = b'{"id": "a",\r\n"total": 10000000000000000000000.10, "name": "\xe2\x80\xa8\\n"}'
    entries = await shop.stage.add("a", "b", "a", data=data)
    done = shop.once("orders", "--", "cat")
    assert done.returncode == 0
    lines = done.stdout.split("\n")
    assert lines.pop() == ""
    events = [json.loads(line) for line in lines]
    assert [event["entry"] for event in events] == entries
    assert all(event.keys() == LINE for event in events)
    assert events[2] == {
        "resource": "orders", "entry": entries[2], "attempt": 1, "replayed": False,
        "specversion": "1.0", "id": "order:a:2:00000000", "source": "/ordersync/default/orders",
        "type": "io.ordermesh.order.created", "subject": "a", "time": "2026-01-01T10:00:00.000Z",
        "datacontenttype": "application/json", "dataschema": "urn:ordersync:order:1",
        "sequence": "0000000000000003", "version": "2", "reason": "poll", "changed": "", "data": json.loads(data),
    }  # fmt: skip
    assert '"total": 10000000000000000000000.10' in lines[0]
    assert await shop.stage.pending() == {}
    assert shop.once("orders", "--", "cat").stdout == ""


async def test_old_values(shop: Shop) -> None:
    """Where they are switched on, the old values stand in the line as well."""
    (entry,) = await shop.stage.add("a")
    ((_, fields),) = await shop.stage.redis.xrange(STREAM, entry, entry)
    await shop.stage.redis.xadd(STREAM, {**fields, b"previous": b'{"status":"New"}', b"changed": b"status"})
    event = json.loads(shop.once("--", "cat").stdout.splitlines()[1])
    assert (event["changed"], event["previous"]) == ("status", '{"status":"New"}')


async def test_batches(shop: Shop) -> None:
    """A command is started for each batch of up to --batch events; orders is what is read by default."""
    await shop.stage.add(*"abcdefg")
    done = shop.once("--batch", "3", "--", "sh", "-c", "grep -c subject")
    assert done.stdout.splitlines() == ["3", "3", "1"]


async def test_several_resources(shop: Shop) -> None:
    """Events of several resources come to the same command, each with the name of its own."""
    await shop.stage.add("a")
    await shop.stage.add("b", resource="shipments")
    lines = shop.once("orders", "shipments", "--", "cat").stdout.splitlines()
    assert sorted(json.loads(line)["resource"] for line in lines) == ["orders", "shipments"]
    assert await shop.stage.pending(resource="shipments") == {}


async def test_where_a_new_group_begins(shop: Shop) -> None:
    """With the oldest event that is kept, or with --from $ the next new one; a group that is there goes on."""
    await shop.stage.add("old")
    assert shop.once("--from", "$", "--", "cat", group="late").stdout == ""
    await shop.stage.add("new")
    assert subjects(shop.once("--from", "0", "--", "cat", group="late").stdout.splitlines()) == ["new"]
    assert subjects(shop.once("--", "cat").stdout.splitlines()) == ["old", "new"]


async def test_an_event_that_is_larger_than_a_pipe(shop: Shop) -> None:
    """It arrives whole."""
    await shop.stage.add("a", "b", data=json.dumps({"id": "x" * 300_000}).encode())
    done = shop.once("--", "sh", "-c", "sleep 0.1; wc -c")
    assert int(done.stdout) > 600_000
    assert await shop.stage.pending() == {}


async def test_the_environment_of_the_command(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of somebody else gets no secret of ours, unless it is named."""
    monkeypatch.setenv("MINE", "kept")

    def consume(*words: str) -> subprocess.CompletedProcess[str]:
        return ordersync(
            "consume", "--group", "g", "--name", "c1", "--once", *words, cwd=shop.folder, redis__url=shop.url,
            api__client_secret="s3cret-one", privacy__key="s3cret-two-of-32-letters-0a9b8c7d", account="default",
        )  # fmt: skip

    await shop.stage.add("o1")
    consume("--", "sh", "-c", "cat > /dev/null; env > without")
    await shop.stage.add("o2")
    consume("--pass-env", "ORDERSYNC_API__CLIENT_SECRET", "--", "sh", "-c", "cat > /dev/null; env > with")
    without, given = shop.read("without"), shop.read("with")
    assert not [line for line in without if "s3cret" in line or shop.url in line]
    assert {"MINE=kept", "ORDERSYNC_ACCOUNT=default"} <= set(without)
    assert [line for line in given if "s3cret" in line] == ["ORDERSYNC_API__CLIENT_SECRET=s3cret-one"]
    refused = consume("--pass-env", "NOT_SET_HERE", "--", "true")
    assert (refused.returncode, "NOT_SET_HERE is not set" in refused.stderr) == (2, True)


async def test_a_removed_entry(shop: Shop) -> None:
    """One whose data is gone is told in the log and never handed out."""
    first, _ = await shop.stage.add("a", "b")
    await shop.stage.group()
    await shop.stage.read("c1", 2)
    await shop.stage.redis.xdel(STREAM, first)
    done = shop.once("--", "cat")
    assert subjects(done.stdout.splitlines()) == ["b"]
    assert "deliveries_trimmed" in done.stderr
    assert await shop.stage.pending() == {}


# --- what becomes of a bad event --------------------------------------------------------------------------


async def test_the_bad_one_is_found(shop: Shop) -> None:
    """The others get through in order; a later event of its entity waits until it is dealt with or dead."""
    await shop.stage.add("a", "bad", "b", "bad", "c")
    done = shop.once("--max-deliveries", "2", "--", "sh", "-c", BAD)
    assert done.returncode == 0
    assert subjects(done.stdout.splitlines()) == ["a", "a", "b", "c"]
    assert "no bad ones" in done.stderr.splitlines()
    first, second = await shop.stage.letters()
    assert (first.event and first.event.version, second.event and second.event.version) == (1, 2)
    assert (first.reason, first.attempts, first.group) == ("sh ended with exit code 7: no bad ones", 2, "g")
    assert await shop.stage.pending() == {}


async def test_later_events_wait(shop: Shop) -> None:
    """An event that gets through at its second attempt is still before the next one of its entity."""
    await shop.stage.add("a", "b", "a", "b")
    command = shop.script("""
lines = sys.stdin.readlines()
for line in lines:
    event = json.loads(line)
    if event["subject"] == "a" and event["version"] == "1" and event["attempt"] == 1:
        sys.exit("not yet")
print("".join(lines), end="")
""")
    done = shop.once("--", "sh", "-c", command)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    told = [(event["subject"], event["version"], event["attempt"]) for event in events]
    assert told == [("b", "1", 1), ("b", "2", 1), ("a", "1", 2), ("a", "2", 1)]
    assert await shop.stage.letters() == []


@pytest.mark.parametrize(
    "words", [("--", "false"), ("--parallel", "3", "--", "false"), ("--stay", "--", "sh", "-c", REFUSES)]
)
async def test_a_command_that_takes_nothing(shop: Shop, words: tuple[str, ...]) -> None:
    """With --once it ends when ten events have failed: a broken database makes no dead letters of a whole stream."""
    await shop.stage.add(*[f"o{number}" for number in range(60)])
    done = shop.once("--max-deliveries", "2", *words)
    assert done.returncode == 1
    assert "fails for every event. The events stay in the group." in done.stderr
    assert await shop.stage.letters() == []
    assert len(shop.once("--", "cat", name="c2").stdout.splitlines()) == 60


SMALL, LARGE = b'{"id":"a"}', b'{"id":"' + b"x" * 200_000 + b'"}'
"""Records, one of which does not fit into a pipe."""
UNREAD = "sh ended with exit code 0, without reading its whole input"


@pytest.mark.parametrize(
    ("command", "reason", "data"),
    [
        ("echo one >&2; echo two >&2; cat >/dev/null; exit 3", "sh ended with exit code 3: one | two", SMALL),
        ("seq 5000 >&2; exit 1", "sh ended with exit code 1: 4996 | 4997 | 4998 | 4999 | 5000", LARGE),
        ("kill -9 $$", "sh was killed by SIGKILL", SMALL),
        ("exit 0", UNREAD, SMALL),
        ("exit 0", UNREAD, LARGE),
        ("head -c 10 >/dev/null", UNREAD, LARGE),
        ("exec <&-; exit 0", UNREAD, LARGE),
    ],
    ids=["exit code", "much said", "killed", "unread", "unread, large", "half read", "closed"],
)
async def test_how_a_command_fails(shop: Shop, command: str, reason: str, data: bytes) -> None:
    """A dead letter says how it ended, and its last words."""
    await shop.stage.add("a", data=data)
    done = shop.once("--max-deliveries", "1", "--", "sh", "-c", command)
    assert done.returncode == 0
    (letter,) = await shop.stage.letters()
    assert letter.reason == reason
    assert letter.data == data


async def test_a_child_of_the_command_holds_nothing_up(shop: Shop) -> None:
    """A command that leaves a process behind, with its standard error, has ended all the same."""
    await shop.stage.add("a")
    done = shop.once("--", "sh", "-c", "cat >/dev/null; sleep 30 >&2 & echo $! > left; exit 0")
    os.kill(int(shop.read("left")[0]), signal.SIGKILL)
    assert done.returncode == 0
    assert await shop.stage.pending() == {}


async def test_nobody_reads_the_output(shop: Shop) -> None:
    """Where that brings the command down (`| head -1`), no event is to blame: it ends, and gives them back."""
    entries = await shop.stage.add(*(f"s{number}" for number in range(40)), data=b'"%s"' % (b"x" * 20_000))
    words = "consume --group g --name c1 --once --batch 1 --max-deliveries 1 -- cat"
    command = f"{sys.executable} -m worker.cli {words} | head -n 1 | wc -l"
    done = await run_beside("sh", "-c", command, cwd=shop.folder, env=program_env(redis__url=shop.url))
    assert (done.returncode, done.stdout.split()) == (0, ["1"])
    assert "Traceback" not in done.stderr
    assert await shop.stage.letters() == []
    assert {owner for owner, _ in (await shop.stage.pending()).values()} == {"ordersync-returned"}
    again = shop.once("--", "cat").stdout.splitlines()
    assert 0 < len(again) < len(entries)
    assert [json.loads(line)["entry"] for line in again] == entries[-len(again) :]


async def test_who_brings_everything_down(shop: Shop) -> None:
    """An event that ends even `ordersync` becomes a dead letter in the end, and no other one with it."""
    await shop.stage.add("a", "bad", "b")
    command = """while read -r line; do case $line in *'"bad"'*) kill -9 $PPID; exit 1;; esac
        printf '%s\\n' "$line" >> taken; done"""
    for _ in range(3):
        words = (
            "consume",
            "--group",
            "g",
            "--name",
            "c1",
            "--once",
            "--max-deliveries",
            "2",
            "--",
            "sh",
            "-c",
            command,
        )
        ordersync_process(*words, cwd=shop.folder, redis__url=shop.url)
    (letter,) = await shop.stage.letters()
    assert letter.subject == "bad"
    assert letter.reason.startswith("delivered 2 times, and each time the consumer ended")
    assert set(subjects(shop.read("taken"))) == {"a", "b"}
    assert await shop.stage.pending() == {}


# --- order, several at once -------------------------------------------------------------------------------


async def test_parallel_commands(shop: Shop) -> None:
    """Several commands work at the same time, never two of them on one entity, and each entity's events in order."""
    await shop.stage.add(*"abcd" * 5)
    command = shop.script("""
for line in sys.stdin:
    event = json.loads(line)
    with open("log", "a") as log:
        print("begin", event["subject"], event["version"], file=log, flush=True)
        time.sleep(0.05)
        print("end", event["subject"], event["version"], file=log, flush=True)
""")
    assert shop.once("--batch", "1", "--parallel", "4", "--", "sh", "-c", command).returncode == 0
    open_entities: set[str] = set()
    versions: dict[str, list[str]] = {}
    most = 0
    for line in shop.read("log"):
        word, subject, version = line.split()
        if word == "begin":
            assert subject not in open_entities
            open_entities.add(subject)
            versions.setdefault(subject, []).append(version)
        else:
            open_entities.remove(subject)
        most = max(most, len(open_entities))
    assert versions == {subject: list("12345") for subject in "abcd"}
    assert most > 1
