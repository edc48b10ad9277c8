"""`ordersync consume`: events go to any command, and none is lost, whatever the command does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.commands import ordersync
from tests.support.consuming import KEYS, Stage
from tests.support.programs import Program, ordersync_process, program_env, run_beside
from tests.support.servers import free_port
from tests.support.waiting import eventually
from ordersync_consumer.envelope import FIELDS
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio

STREAM = KEYS.stream("orders")
LINE = ("resource", "entry", "attempt", "replayed", *FIELDS)
BAD = """while read -r line; do case $line in *'"subject":"bad"'*) echo "no bad ones" >&2; exit 7;; esac
    printf '%s\\n' "$line"; done"""
"""A command that shows what it is given, and refuses events of the entity `bad`."""


@dataclass(slots=True)
class Shop:
    """A stream, and `ordersync consume` at work on it for group g."""

    stage: Stage
    url: str
    folder: Path

    def once(self, *words: str, name: str = "c1", group: str = "g") -> subprocess.CompletedProcess[str]:
        """Consume to the end."""
        all_words = ("consume", "--group", group, "--name", name, "--once", *words)
        return ordersync(*all_words, cwd=self.folder, redis__url=self.url)

    def program(self, *words: str, name: str = "c1") -> Program:
        """Consume beside the test."""
        command = (sys.executable, "-m", "worker.cli", "consume", "--group", "g", "--name", name, *words)
        return Program(self.folder, *command, redis__url=self.url)

    def script(self, text: str) -> str:
        """A command in Python, for the shell."""
        path = self.folder / "command.py"
        path.write_text("import json, os, signal, sys, time\n" + text)
        return f"{sys.executable} -u {path}"

    def read(self, name: str) -> list[str]:
        """The lines of a file that a command has written so far."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
async def shop(redis_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    client = connect(redis_url)
    yield Shop(Stage(client), redis_url, tmp_path)
    await client.aclose()


def subjects(lines: list[str]) -> list[str]:
    """Of which entities these events are."""
    return [json.loads(line)["subject"] for line in lines]


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
    assert {tuple(event) for event in events} == {LINE}
    assert events[2] == {
        "resource": "orders", "entry": entries[2], "attempt": 1, "replayed": False,
        "specversion": "1.0", "id": "order:a:2:00000000", "source": "/ordersync/default/orders",
        "type": "io.ordermesh.order.created", "subject": "a", "time": "2026-01-01T10:00:00.000Z",
        "datacontenttype": "application/json", "dataschema": "urn:ordersync:order:1",
        "sequence": 3, "version": 2, "reason": "poll", "changed": [], "data": json.loads(data),
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
    assert (event["changed"], event["previous"]) == (["status"], {"status": "New"})


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
            api__client_secret="s3cret-one", privacy__key="s3cret-two-16-letters", account="default",
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
    if event["subject"] == "a" and event["version"] == 1 and event["attempt"] == 1:
        sys.exit("not yet")
print("".join(lines), end="")
""")
    done = shop.once("--", "sh", "-c", command)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    told = [(event["subject"], event["version"], event["attempt"]) for event in events]
    assert told == [("b", 1, 1), ("b", 2, 1), ("a", 1, 2), ("a", 2, 1)]
    assert await shop.stage.letters() == []


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


# --- a command that stays ---------------------------------------------------------------------------------

STAYING = """
print(os.getpid(), file=open("lives", "a"))
for line in sys.stdin:
    event = json.loads(line)
    print(event["subject"], event["version"], event["attempt"], file=open("given", "a"))
    """


async def test_it_stays(shop: Shop) -> None:
    """One process gets all events, each entity's in order, and answers with a line each."""
    await shop.stage.add(*"abc" * 40)
    done = shop.once(
        "--stay", "--batch", "7", "--", "sh", "-c", shop.script(STAYING + 'print("ok", event["entry"])')
    )
    assert (done.returncode, len(shop.read("lives"))) == (0, 1)
    given = [line.split() for line in shop.read("given")]
    assert len(given) == 120
    for entity in "abc":
        assert [version for subject, version, _ in given if subject == entity] == [*map(str, range(1, 41))]
    assert await shop.stage.pending() == {}


async def test_answers_in_any_order(shop: Shop) -> None:
    """It may take several events at a time and answer them as it likes."""
    await shop.stage.add(*"abcdef")
    command = shop.script("""
waiting = []
for line in sys.stdin:
    waiting.append(json.loads(line)["entry"])
    if len(waiting) == 3:
        print("".join(f"ok {entry}\\r\\n" for entry in reversed(waiting)), end="\\n\\n")
        waiting.clear()
""")
    assert shop.once("--stay", "--batch", "3", "--", "sh", "-c", command).returncode == 0
    assert await shop.stage.pending() == {}


async def test_it_refuses(shop: Shop) -> None:
    """What it fails is tried again, before later events of the entity, and becomes a dead letter with its reason."""
    await shop.stage.add("a", "bad", "bad", "b")
    answer = """if event["subject"] == "bad" and event["version"] == 1:
        print("fail", event["entry"], "out of  stock")
    else:
        print("ok", event["entry"])"""
    done = shop.once("--stay", "--max-deliveries", "2", "--", "sh", "-c", shop.script(STAYING + answer))
    assert (done.returncode, len(shop.read("lives"))) == (0, 1)
    assert shop.read("given") == ["a 1 1", "bad 1 1", "b 1 1", "bad 1 2", "bad 2 1"]
    (letter,) = await shop.stage.letters()
    assert (letter.reason, letter.attempts) == ("out of  stock", 2)


@pytest.mark.parametrize(
    ("last_act", "reason"),
    [
        ('sys.exit("out of luck")', r"sh|python.* ended with exit code 1: out of luck"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        (
            'print("thank you"); time.sleep(60)',
            r"wrote a line of 9 characters that is not an answer; expected `ok ENTRY`",
        ),
        ('print("ok", event["entry"], "fine"); time.sleep(60)', "that is not an answer"),
        (
            'print("ok 1-1"); time.sleep(60)',
            "answered entry '1-1', which is not an unanswered event; expected",
        ),
        ('print("x" * 100_000, end=""); time.sleep(60)', "wrote a line of more than 65536 bytes"),
        ("os.close(1); time.sleep(60)", "closed its standard output"),
    ],
)
async def test_it_ends(shop: Shop, last_act: str, reason: str) -> None:
    """It is started again; of what it had not answered the bad event is found, and the others get through."""
    await shop.stage.add("a", "b", "bad", "c", "bad", "d")
    answer = f"""if event["subject"] == "bad" and event["version"] == 1:
        {last_act}
    elif event["attempt"] < 2 and event["subject"] > "b" and len(open("lives").readlines()) == 1:
        pass
    else:
        print("ok", event["entry"])"""
    command = "exec " + shop.script(STAYING + answer)
    done = shop.once("--stay", "--max-deliveries", "1", "--", "sh", "-c", command)
    assert done.returncode == 0
    (letter,) = await shop.stage.letters()
    assert (letter.subject, letter.event and letter.event.version) == ("bad", 1)
    assert re.search(reason, letter.reason)
    assert await shop.stage.pending() == {}
    assert len(shop.read("lives")) == 3
    assert [line for line in shop.read("given") if line.endswith(" 2")] == []


async def test_the_same_entry_id_in_two_resources(shop: Shop) -> None:
    """An answer is that to one event: the second one is handed over when the first is answered."""
    for resource in ("orders", "shipments"):
        (entry,) = await shop.stage.add("x", resource=resource)
        stream = KEYS.stream(resource)
        ((_, fields),) = await shop.stage.redis.xrange(stream, entry, entry)
        await shop.stage.redis.delete(stream)
        await shop.stage.redis.xadd(stream, fields, id="1772448067513-0")
    answer = 'print("ok" if event["resource"] == "orders" else "fail", event["entry"], flush=True)'
    words = ("--stay", "--max-deliveries", "1", "orders", "shipments")
    assert shop.once(*words, "--", "sh", "-c", shop.script(STAYING + answer)).returncode == 0
    assert await shop.stage.letters() == []
    (letter,) = await shop.stage.letters("shipments")
    assert letter.reason == "no reason given"


# --- the end ----------------------------------------------------------------------------------------------


def is_gone(pid: int) -> bool:
    """Whether a process has ended; whoever inherited it may not have noticed yet."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def began(shop: Shop, lines: int = 1) -> None:
    """Wait until a command has begun."""
    await eventually(lambda: len(shop.read("began")) >= lines)


async def test_a_signal_lets_the_batch_finish(shop: Shop) -> None:
    """What the command has in hand is acknowledged; the rest is given back, and comes to others at once, uncounted."""
    await shop.stage.add(*"abcd")
    command = "cat >> taken; echo >> began; sleep 0.5; echo done >> began"
    with shop.program("--batch", "2", "--", "sh", "-c", command) as program:
        await began(shop)
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0
        assert shop.read("began")[-1] == "done"
        assert subjects(shop.read("taken")) == ["a", "b"]
    assert {count for _, count in (await shop.stage.pending()).values()} <= {0}
    lines = shop.once("--", "cat", name="c2").stdout.splitlines()
    assert [(json.loads(line)["subject"], json.loads(line)["attempt"]) for line in lines] == [
        ("c", 1),
        ("d", 1),
    ]


async def test_a_signal_while_it_waits(shop: Shop) -> None:
    """With nothing to do it ends at once."""
    with shop.program("--", "cat") as program:
        await program.logged("consumer_started")
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0


async def test_a_signal_closes_the_input(shop: Shop) -> None:
    """A command that stays finds the end of its input, and may answer what it has."""
    await shop.stage.add(*"abc")
    command = shop.script("""
entries = []
for line in sys.stdin:
    entries.append(json.loads(line)["entry"])
    print(file=open("began", "a"))
print("\\n".join(f"ok {entry}" for entry in entries[:2]), end="")
""")
    with shop.program("--stay", "--", "sh", "-c", command) as program:
        await began(shop, 3)
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0
    pending = await shop.stage.pending()
    assert [(owner, count) for owner, count in pending.values()] == [("ordersync-returned", 0)]


@pytest.mark.parametrize("stay", [(), ("--stay",)], ids=["batch", "stay"])
async def test_grace_has_an_end(shop: Shop, stay: tuple[str, ...]) -> None:
    """A command that does not finish is ended with all it has started; its event is given back, and counted."""
    await shop.stage.add("a")
    command = "read -r line; echo >> began; sleep 60 & echo $! > left; wait"
    with shop.program(*stay, "--grace", "0.2", "--", "sh", "-c", command) as program:
        await eventually(lambda: shop.read("left"))
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0
    assert is_gone(int(shop.read("left")[0]))
    assert list((await shop.stage.pending()).values()) == [("ordersync-returned", 1)]


async def test_a_second_signal(shop: Shop) -> None:
    """It ends the command at once."""
    await shop.stage.add("a")
    with shop.program(
        "--grace", "60", "--", "sh", "-c", "cat >/dev/null; echo >> began; sleep 60"
    ) as program:
        await began(shop)
        program.process.send_signal(signal.SIGINT)
        await program.logged("consume_ending")
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0


async def test_after_a_kill(shop: Shop) -> None:
    """What a killed process had comes first when it starts again under its name, and counts as begun."""
    await shop.stage.add("a", "b")
    with shop.program("--batch", "1", "--", "sh", "-c", "echo >> began; sleep 60"):
        await began(shop)
    lines = shop.once("--", "cat").stdout.splitlines()
    assert subjects(lines) == ["a", "b"]
    assert json.loads(lines[0])["attempt"] == 2


# --- wrong use and exit codes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-g", "g"), "The command is missing. Write it after --"),
        (("-g", "g", "--"), "The command is missing. Write it after --"),
        (("--", "cat"), "--group"),
        (("-g", "g", "parcels", "--", "cat"), "Unknown resource 'parcels'. Known resources: orders"),
        (("-g", "a b", "--", "cat"), "Invalid group of a consumer: 'a b'"),
        (("-g", "g", "--name", "ordersync-x", "--", "cat"), "The prefix ordersync- is reserved"),
        (("-g", "g", "--from", "5", "--", "cat"), "--from"),
        (("-g", "g", "--batch", "0", "--", "cat"), "--batch"),
        (
            ("-g", "g", "--", "no-such-program"),
            "'no-such-program' cannot be started: the program was not found",
        ),
        (("-g", "g", "--", "./data"), "'./data' cannot be started: it is not executable"),
        (("-g", "g", "--", "./script"), "'./script' cannot be started: its first line names /no/such/thing"),
        (
            ("-g", "g", "--stay", "--", "./text"),
            "'./text' cannot be started: its first line names no interpreter",
        ),
    ],
)
async def test_wrong_use(shop: Shop, words: tuple[str, ...], told: str) -> None:
    """Exit 2 and a sentence, before anything is taken or a group is made."""
    await shop.stage.add("a")
    (shop.folder / "data").write_text("no program")
    for name, text in (("script", "#!/no/such/thing\n"), ("text", "cat\n")):
        (shop.folder / name).write_text(text)
        (shop.folder / name).chmod(0o755)
    done = ordersync("consume", *words, cwd=shop.folder, redis__url=shop.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert await shop.stage.redis.xinfo_groups(STREAM) == []


async def test_a_command_that_the_system_refuses(shop: Shop) -> None:
    """What can only be found by starting it ends with 2 as well, and the event was not tried."""
    await shop.stage.add("a")
    broken = shop.folder / "broken"
    broken.write_bytes(b"\x7fELF" + bytes(100))
    broken.chmod(0o755)
    done = shop.once("--", "./broken")
    assert done.returncode == 2
    assert "'./broken' cannot be started" in done.stderr
    assert list((await shop.stage.pending()).values()) == [("ordersync-returned", 0)]


async def test_a_name_that_is_taken(shop: Shop) -> None:
    """The older process of two with one name ends with 2 and says what to do, and takes nothing from the newer one."""
    await shop.stage.add("a")
    with shop.program("--", "sh", "-c", "cat >/dev/null; echo >> began; exit 1") as older:
        await began(shop)
        await shop.stage.die()
        assert await older.ended() == 2
        assert "Another process consumes for group g as 'c1'. Give each process its own --name" in older.err


async def test_redis_is_not_there(tmp_path: Path) -> None:
    """Exit 3, and what to do."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    done = ordersync("consume", "-g", "g", "--", "cat", cwd=tmp_path, redis__url=url)
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot be reached" in done.stderr
    done = ordersync("consume", "-g", "g", "--", "cat", cwd=tmp_path, data_dir=str(tmp_path))
    assert (done.returncode, done.stdout) == (3, "")
    assert "ordersync run" in done.stderr


async def test_a_group_that_is_dropped(shop: Shop) -> None:
    """Exit 1 and what happened."""
    await shop.stage.add("a")
    with shop.program("--", "sh", "-c", "cat >/dev/null; echo >> began") as program:
        await began(shop)
        await shop.stage.redis.xgroup_destroy(STREAM, "g")
        assert await program.ended() == 1
        assert "group g" in program.err
