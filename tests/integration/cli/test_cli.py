"""The command line: answers on stdout, reasons on stderr, exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis

from ordersync_consumer.envelope import FIELDS
from tests.support.commands import ordersync
from tests.support.programs import Program, program_env, run_beside
from tests.support.servers import free_port
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import Bench, BenchMaker
from worker import __version__
from worker.app import announce
from worker.cli import COMMANDS
from worker.config.settings import variable_names
from worker.service import heartbeat

pytestmark = pytest.mark.anyio

STREAM = "ordersync:{default}:stream:orders"


@pytest.fixture
async def polled(bench: BenchMaker) -> AsyncIterator[Bench]:
    """A Redis in which a worker has read 50 orders."""
    async with bench() as b:
        await announce(b.services)
        await b.poll()
        yield b


def each_of(
    commands: Sequence[tuple[str, ...]], folder: Path, **settings: str
) -> list[subprocess.CompletedProcess[str]]:
    """Run several commands, one after the other."""
    return [ordersync(*words, cwd=folder, **settings) for words in commands]


def loaded_by(folder: Path, *arguments: str, **settings: str) -> set[str]:
    """The modules that a command has imported."""
    script = (
        f"import sys; sys.argv = ['ordersync', *{list(arguments)!r}]\n"
        "from worker.cli import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=program_env(**settings),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return set(done.stderr.split())


def test_version(tmp_path: Path) -> None:
    done = ordersync("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"ordersync {__version__}\n")


def test_help_names_every_command_and_the_exit_codes(tmp_path: Path) -> None:
    """With examples; `-h` is the same."""
    done = ordersync("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert "Exit codes: 0 success, 1 failure, 2 wrong usage or settings, 3 Redis or" in done.stdout
    assert "ordersync run --sandbox" in done.stdout
    assert ordersync("-h", cwd=tmp_path).stdout == done.stdout


def test_help_of_each_command_has_an_example(tmp_path: Path) -> None:
    """And needs no settings."""
    commands = [("config", "show") if name == "config" else (name,) for name in COMMANDS]
    for words, done in zip(commands, each_of([(*c, "--help") for c in commands], tmp_path), strict=True):
        assert done.returncode == 0
        assert "Example" in done.stdout
        assert f"ordersync {' '.join(words)}" in done.stdout.replace('", "', " ")


def test_help_and_health_import_nothing_heavy(tmp_path: Path) -> None:
    """They answer at once: `--help` to a person, `health` to a container that asks every few seconds."""
    heavy = {"pydantic", "pydantic_settings", "aiohttp", "httpx", "redis", "arq", "structlog", "starlette"}
    for arguments in (("--help",), ("health", "--json")):
        loaded = loaded_by(tmp_path, *arguments, data_dir=str(tmp_path))
        assert "worker.cli" in loaded
        assert not heavy & loaded


def test_wrong_use_is_exit_2(tmp_path: Path) -> None:
    """A sentence on stderr, nothing on stdout, no traceback."""
    commands = [
        ("nosuch",), ("run", "--nosuch"), ("tail", "parcels"), ("tail", "--from", "soon"), ("tail", "-n", "-1"),
        ("tail", "--from", "9" * 30), ("sandbox", "--port", "99999"), ("status", "extra"),
    ]  # fmt: skip
    for done in each_of(commands, tmp_path):
        assert (done.returncode, done.stdout) == (2, ""), done.args
        assert done.stderr
        assert "Traceback" not in done.stderr


def test_looking_where_nothing_runs_is_exit_3(tmp_path: Path) -> None:
    """Without a worker the way to start one is named, without Redis its address, never the password."""
    commands = [("status",), ("tail",)]
    for done in each_of(commands, tmp_path, data_dir=str(tmp_path)):
        assert done.returncode == 3
        assert "ordersync run --sandbox" in done.stderr
    url = f"redis://:hunter2-hunter2@127.0.0.1:{free_port()}/0"
    for done in each_of(commands, tmp_path, redis__url=url):
        assert done.returncode == 3
        assert "redis://:***@127.0.0.1" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout


def test_a_bad_setting_is_exit_2(tmp_path: Path) -> None:
    """Whatever command meets it."""
    for done in each_of([("status",), ("tail",), ("run",)], tmp_path, api__page_size="x"):
        assert done.returncode == 2
        assert "ORDERSYNC_API__PAGE_SIZE" in done.stderr


# --- status and health -------------------------------------------------------------------------------


async def test_status(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """A table for people, objects for programs, with the same facts."""
    (row,) = json.loads(ordersync("status", "--json", cwd=tmp_path, redis__url=redis_url).stdout)
    assert row.items() >= {
        "account": "default", "resource": "orders", "health": "ok", "records": 50, "events": 50, "dead": 0,
        "stream": STREAM,
    }.items()  # fmt: skip
    assert 0 <= row["fresh_s"] < 60
    words, _, head, line, *_ = ordersync("status", cwd=tmp_path, redis__url=redis_url).stdout.splitlines()
    assert words == "No worker is alive for default: nothing is read."
    assert head.split() == [
        "account",
        "resource",
        "health",
        "lane",
        "records",
        "events",
        "dead",
        "unread",
        "fresh",
        "last",
        "success",
        "records/min",
        "events/min",
    ]
    assert line.split()[:7] == ["default", "orders", "ok", "polls", "50", "50", "0"]


async def test_status_tells_the_cause(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """A resource that is ill says why below the table."""
    await polled.redis.hset(
        polled.account.keys.cursor("orders"), mapping={"failures": "2", "error": "status 503"}
    )
    shown = ordersync("status", cwd=tmp_path, redis__url=redis_url).stdout
    assert "default/orders is degraded: the poll failed 2 times in a row: status 503" in shown


def test_status_of_an_empty_redis(redis_url: str, tmp_path: Path) -> None:
    done = ordersync("status", cwd=tmp_path, redis__url=redis_url)
    assert (done.returncode, done.stdout) == (
        0,
        "No worker has used this Redis yet. To start one: ordersync run\n",
    )
    assert ordersync("status", "--json", cwd=tmp_path, redis__url=redis_url).stdout == "[]\n"


def test_health(tmp_path: Path) -> None:
    """0 while fresh, 1 with the reason else; the folder may come from `.env`, and an empty variable counts as none."""
    done = ordersync("health", cwd=tmp_path, data_dir=str(tmp_path))
    assert (done.returncode, done.stdout) == (
        1, "no worker has written a heartbeat. To start one: ordersync run\n",
    )  # fmt: skip
    heartbeat.write(tmp_path / "data", heartbeat.Beat("w", os.getpid(), time.time(), 1.0))
    done = ordersync("health", cwd=tmp_path, data_dir=str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (0, "healthy\n")
    (tmp_path / ".env").write_text(f"ORDERSYNC_DATA_DIR={tmp_path / 'data'}\n")
    for values in ({}, {"data_dir": ""}):
        found = ordersync("health", "--json", cwd=tmp_path, **values)
        assert found.returncode == 0
        assert json.loads(found.stdout)["heartbeat"]["worker"] == "w"


# --- config -----------------------------------------------------------------------------------------------


def test_config_show(tmp_path: Path) -> None:
    """Every setting in force, as a variable or as JSON, secrets hidden."""
    values = {
        "api__client_id": "client",
        "api__client_secret": "hunter2-hunter2",
        "redis__url": "redis://:hunter2-hunter2@host:6379/0",
        "poll__intervals": '{"orders": 5}',
    }
    text = ordersync("config", "show", cwd=tmp_path, **values)
    assert text.returncode == 0
    assert "ORDERSYNC_API__CLIENT_ID=client\n" in text.stdout
    assert "ORDERSYNC_REDIS__URL=redis://:***@host:6379/0\n" in text.stdout
    assert 'ORDERSYNC_POLL__INTERVALS={"orders": 5.0}\n' in text.stdout
    shown = {line.partition("=")[0] for line in text.stdout.splitlines()}
    assert shown == set(variable_names()) - {"ORDERSYNC_SECRETS_DIR", "ORDERSYNC_COMPILED"}
    as_json = ordersync("config", "show", "--json", cwd=tmp_path, **values)
    assert json.loads(as_json.stdout)["api"]["client_id"] == "client"
    assert "hunter2" not in text.stdout + text.stderr + as_json.stdout + as_json.stderr


def test_config_names(tmp_path: Path) -> None:
    """What can be set, and what it means; needs no good settings."""
    done = ordersync("config", "show", "--names", "--json", cwd=tmp_path, api__page_size="x")
    assert json.loads(done.stdout) == variable_names()
    text = ordersync("config", "show", "--names", cwd=tmp_path).stdout
    assert len(text.splitlines()) == len(variable_names())


def test_config_show_with_many_accounts(tmp_path: Path) -> None:
    (tmp_path / "accounts.toml").write_text(
        "[accounts.eu.api]\nclient_id = 'x'\nclient_secret = 'hunter2-hunter2'\n"
    )
    done = ordersync("config", "show", "--json", cwd=tmp_path, accounts_file="accounts.toml")
    assert json.loads(done.stdout)["accounts"]["eu"]["api"]["client_id"] == "x"
    assert "hunter2" not in done.stdout


# --- tail -------------------------------------------------------------------------------------------------


async def test_tail_for_people(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """A line an event; the last ten without being told, `-n` of them, or all from a place on."""
    newest = (await polled.events())[-1]
    counts: dict[tuple[str, ...], int] = {
        (): 10, ("-n", "3"): 3, ("-n", "0"): 0, ("--from", "0"): 50, ("--from", newest.entry_id): 0, ("-n", "1"): 1,
    }  # fmt: skip
    commands = [("tail", "orders", "--no-follow", *arguments) for arguments in counts]
    answers = each_of(commands, tmp_path, redis__url=redis_url)
    assert [len(done.stdout.splitlines()) for done in answers] == list(counts.values())
    assert {done.returncode for done in answers} == {0}
    number = f"({json.loads(newest.data)['shortId']})"
    assert answers[-1].stdout.split()[:5] == [newest.time, "snapshot", newest.subject, number, "v1"]


@pytest.mark.parametrize("shown", ["1", "10"])
async def test_tail_shows_how_the_status_changed(
    polled: Bench, redis_url: str, tmp_path: Path, shown: str
) -> None:
    """The old status comes from an older event, which need not be among those that are shown."""
    order = polled.sandbox.store.ids()[0]
    before = json.loads(polled.sandbox.store.truth()[order])["status"]
    for status in ("On Hold", "In Production"):
        polled.sandbox.store.change(order, status=status)
        await polled.poll()
    done = ordersync("tail", "-n", shown, "--no-follow", cwd=tmp_path, redis__url=redis_url)
    lines = done.stdout.splitlines()
    assert "v3  status On Hold -> In Production" in lines[-1]
    if shown != "1":
        assert f"v2  status {before} -> On Hold" in lines[-2]


async def test_tail_shows_a_status_whose_old_value_is_gone(
    polled: Bench, redis_url: str, tmp_path: Path
) -> None:
    """Where retention has removed the older event, only the new status is shown."""
    polled.sandbox.store.change(polled.sandbox.store.ids()[0], status="On Hold")
    await polled.poll()
    await polled.redis.xtrim(STREAM, maxlen=1, approximate=False)
    done = ordersync("tail", "--no-follow", cwd=tmp_path, redis__url=redis_url)
    assert "v2  status -> On Hold" in done.stdout


async def test_tail_as_json_lines(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """All attributes, and under `data` the record byte for byte as it was served."""
    done = ordersync("tail", "--json", "--no-follow", "--from", "0", cwd=tmp_path, redis__url=redis_url)
    lines = done.stdout.encode().splitlines()
    truth = polled.sandbox.store.truth()
    assert len(lines) == 50
    for line in lines:
        fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        subject = msgspec.json.decode(fields["subject"])
        assert {"entry", "resource", *FIELDS} == set(fields)
        assert bytes(fields["data"]) == truth[subject]


async def test_a_record_with_line_breaks_stays_one_line(
    polled: Bench, redis_url: str, tmp_path: Path
) -> None:
    """A server may write its JSON in many lines; between tokens a break and a space are the same."""
    ((_, fields),) = await polled.redis.xrevrange(STREAM, count=1)
    await polled.redis.xadd(STREAM, {**fields, b"data": b'{\r\n "id": "a",\n "b": "c\\nd"\n}'})
    done = ordersync("tail", "--json", "--no-follow", "-n", "1", cwd=tmp_path, redis__url=redis_url)
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["data"] == {"id": "a", "b": "c\nd"}


async def test_tail_goes_on_past_what_is_no_event(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """An entry that another program wrote is named and left out, at the end and among others."""
    events = len(await polled.events())
    await polled.redis.xadd(STREAM, {"made": "by another"})
    for words in (("--from", "0"), ("-n", str(events + 1))):
        done = ordersync("tail", *words, "--no-follow", cwd=tmp_path, redis__url=redis_url)
        assert (done.returncode, len(done.stdout.splitlines())) == (0, events)
        assert done.stderr.startswith("Left out: ")
        assert "Traceback" not in done.stderr


async def test_tail_follows_until_ctrl_c(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """New events appear as they come; with `-n 0` nothing else. Ctrl-C is a good end."""
    command = (sys.executable, "-m", "worker.cli", "tail", "--json", "-n", "0")
    changed: list[str] = []
    with Program(tmp_path, *command, redis__url=redis_url) as program:

        async def something_is_shown() -> str:
            """Until it has begun to look, one change after the other."""
            changed.extend(polled.sandbox.store.change(1))
            await polled.poll()
            await asyncio.sleep(0.2)
            return program.out

        await eventually(something_is_shown)
        shown = [json.loads(line)["subject"] for line in program.out.splitlines()]
        assert shown == changed[-len(shown) :]
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0
        assert "Traceback" not in program.err


@pytest.mark.parametrize("arguments", ["tail --json --from 0 --no-follow", "status", "config show", "--help"])
async def test_a_reader_that_has_gone_is_no_failure(
    polled: Bench, redis_url: str, tmp_path: Path, arguments: str
) -> None:
    """`ordersync tail --json | head -1`: exit 0, and not a word."""
    ordersync_ = f"{sys.executable} -m worker.cli {arguments}"
    env = program_env(redis__url=redis_url)
    shell = f"{ordersync_} | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}"
    done = await run_beside("bash", "-c", shell, cwd=tmp_path, env=env)
    assert (done.stdout, done.stderr) == ("0\n", "")
    shell = f"(sleep 0.3; {ordersync_}; echo $? >&2) | true"  # the reader is gone before anything was written
    done = await run_beside("bash", "-c", shell, cwd=tmp_path, env=env)
    assert done.stderr == "0\n"


async def test_several_accounts(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """One is taken without a word; of several the one of the settings, else one must be named."""
    base = ("tail", "--no-follow", "-n", "1")
    assert ordersync(*base, cwd=tmp_path, redis__url=redis_url, account="other").returncode == 0
    await polled.redis.sadd("ordersync:accounts", "eu")
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


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
async def test_colours(
    polled: Bench, redis_url: str, tmp_path: Path, no_color: str, *, coloured: bool
) -> None:
    """On a terminal, unless NO_COLOR is set; never off one."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker.cli", "status"),
            cwd=tmp_path,
            env=program_env(redis__url=redis_url) | {"NO_COLOR": no_color, "TERM": "xterm"},
            stdout=theirs,
        )
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "default" in shown
    assert ("\x1b[" in shown) is coloured
    assert "\x1b[" not in ordersync("status", cwd=tmp_path, redis__url=redis_url).stdout


# --- sandbox ----------------------------------------------------------------------------------------------


async def test_the_sandbox_command(tmp_path: Path) -> None:
    """It says where it listens and how to log in, works, and ends in order."""
    still = ("--orders", "5", "--changes-per-second", "0")
    command = (sys.executable, "-m", "worker.cli", "sandbox", "--port", "0", *still, "--json")
    with Program(tmp_path, *command) as program:
        while not program.out.endswith("\n"):
            assert program.process.poll() is None, program.err
            await asyncio.sleep(0.02)
        ready: dict[str, Any] = json.loads(program.out)
        async with httpx.AsyncClient() as client:
            stats = (await client.get(f"{ready['url']}/_sandbox/stats")).json()
        assert (ready["orders"], stats["orders"]) == (5, 5)
        port = ready["url"].rpartition(":")[2]
        done = ordersync("sandbox", "--port", port, cwd=tmp_path)
        assert done.returncode == 3
        assert f"port {port}" in done.stderr
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0
    (tmp_path / "faults.toml").write_text("[[rule]]\naction = 'nosuch'\n")
    done = ordersync("sandbox", "--faults", "faults.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "--faults" in done.stderr
