"""The commands as installed: what they print, for people and for programs, and what they end with."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import pytest
import redis

from tests.conftest import Program, Server, eventually, free_port, login_settings, program_env, run_beside
from worker import __version__
from worker.cli import COMMANDS
from worker.queue.envelope import FIELDS
from worker.sandbox import FaultRule, SandboxServer
from worker.settings import variable_names

pytestmark = pytest.mark.anyio

ORDERSYNC = str(Path(sys.executable).with_name("ordersync"))
STREAM = "ordersync:{default}:stream:orders"
SECRET = "hunter2-hunter2"
HEAVY = {"pydantic", "pydantic_settings", "aiohttp", "redis", "httpx", "arq", "structlog", "starlette"}
LINE = re.compile(r"(\S+)  (snapshot|created |updated )  (\S+)  v(\d+)  ?(.*)")
"""A line of `tail`: time, what happened, which order, its version, the fields that changed."""


def run(*words: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command to its end, in a folder without `.env`."""
    return subprocess.run(
        [ORDERSYNC, *words],
        cwd=cwd,
        env=program_env(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def on_a_terminal(*words: str, cwd: Path, env: dict[str, str]) -> str:
    """What a command shows on a terminal, answers and logs alike."""
    ours, theirs = pty.openpty()
    shown = b""
    try:
        with subprocess.Popen(
            [ORDERSYNC, *words], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
        ) as process:
            while process.poll() is None or select.select([ours], [], [], 0)[0]:
                if select.select([ours], [], [], 0.05)[0]:
                    shown += os.read(ours, 65_536)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 0, shown
    return shown.decode()


@dataclass(frozen=True, slots=True)
class World:
    """A gateway with 20 orders, and two databases that hold their events: of one account, and of two."""

    sandbox: SandboxServer
    one: str
    two: str
    folder: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Filled by `run --once`, as people would."""
    folder = tmp_path_factory.mktemp("world")
    with tempfile.TemporaryDirectory() as data, SandboxServer(orders=20) as sandbox:
        server = Server(Path(data))
        server.start()
        try:
            one, two = server.url, server.url.removesuffix("0") + "1"
            settings = login_settings(sandbox, one, folder / "data")
            done = run("run", "--once", cwd=folder, **settings)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("default/orders: complete: 20 records read, 20 events published")
            login = f'client_id = "{settings["api__client_id"]}"\nclient_secret_file = "secret"\n'
            (folder / "secret").write_text(settings.pop("api__client_secret"))
            (folder / "accounts.toml").write_text(
                f"[accounts.acme.api]\n{login}[accounts.globex.api]\n{login}"
            )
            settings |= {"redis__url": two, "accounts_file": "accounts.toml"}
            done = run("run", "--once", "--json", cwd=folder, **settings)
            assert done.returncode == 0, done.stderr
            assert [summary["account"] for summary in json.loads(done.stdout)] == ["acme", "globex"]
            yield World(sandbox, one, two, folder)
        finally:
            server.stop(kill=True)


# --- version and help -------------------------------------------------------------------------------------


def test_version(tmp_path: Path) -> None:
    """`--version` is the version of the distribution."""
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ordersync {__version__}\n", "")


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS), ("config", "show")])
def test_help_shows_examples(tmp_path: Path, words: tuple[str, ...]) -> None:
    """`--help` of every command ends with 0, even with bad settings; its examples stand a line each, ready to copy."""
    done = run(*words, "--help", cwd=tmp_path, api__page_size="x")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\b" not in done.stdout
    examples = re.search(r"^ *Examples?\b.*:\n((?: +\S.*\n)+)", done.stdout, re.MULTILINE)
    assert examples is not None, done.stdout
    calls = [line.replace('", "', " ").replace('"', " ") for line in examples[1].splitlines()]
    assert [line for line in calls if " ".join(("ordersync", *words)) not in line] == []


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["health"]])
def test_nothing_heavy_is_imported(tmp_path: Path, words: list[str]) -> None:
    """Help, version and the health check answer at once: nothing that is slow to import is imported for them."""
    script = (
        f"import sys; sys.argv = ['ordersync', *{words!r}]\n"
        "from worker.cli import main\n"
        "try: main()\n"
        "finally: print('modules:', *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=program_env(data_dir=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    modules = set(done.stderr.partition("modules: ")[2].split())
    assert "click" in modules
    assert HEAVY & modules == set()


# --- exit codes -------------------------------------------------------------------------------------------


def test_exit_1_is_a_failure(world: World, tmp_path: Path) -> None:
    """A gateway that is ill fails the read; no sign of life fails the health check: the reason is told."""
    with SandboxServer(orders=5, faults=(FaultRule("status", operation="orders.search", code=500),)) as ill:
        more = {"api__attempts": "1", "account": "ill"}
        settings = login_settings(ill, world.one.removesuffix("0") + "2", tmp_path, **more)
        done = run("run", "--once", cwd=tmp_path, **settings)
    assert done.returncode == 1
    assert done.stdout.startswith("ill/orders: failed: 0 records read")
    assert "500" in done.stderr.splitlines()[-1]
    done = run("health", cwd=tmp_path, data_dir=str(tmp_path))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "no worker has written a heartbeat: start one with `ordersync run`\n"
    found = json.loads(run("health", "--json", cwd=tmp_path, data_dir=str(tmp_path)).stdout)
    assert found == {"healthy": False, "problems": [done.stdout.strip()], "heartbeat": None}


@pytest.mark.parametrize(
    ("words", "settings", "told"),
    [
        (("nosuch",), {}, "No such command 'nosuch'"),
        (("run",), {}, "ORDERSYNC_API__CLIENT_ID"),
        (("run",), {"api__pagesize": "1"}, "Did you mean ORDERSYNC_API__PAGE_SIZE?"),
        (("status",), {"api__page_size": "x"}, "ORDERSYNC_API__PAGE_SIZE"),
        (("tail", "parcels"), {}, "There is: orders"),
        (("tail", "--from", "soon"), {}, "--from: 'soon' is no entry of a stream"),
        (("tail", "-n", "-1"), {}, "-n"),
        (("tail", "orders", "extra"), {}, "extra"),
        (("sandbox", "--port", "99999"), {}, "--port"),
        (("sandbox", "--faults", "missing.toml"), {}, "--faults"),
    ],
)
def test_exit_2_is_wrong_use(
    tmp_path: Path, words: tuple[str, ...], settings: dict[str, str], told: str
) -> None:
    """Wrong words and settings are named on stderr; nothing on stdout, no traceback."""
    done = run(*words, cwd=tmp_path, data_dir=str(tmp_path), **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_exit_3_is_not_reached(world: World, tmp_path: Path) -> None:
    """No worker, no Redis, no gateway, no such login: what cannot be reached is named, a password never."""
    for command in ("status", "tail"):
        done = run(command, cwd=tmp_path, data_dir=str(tmp_path))
        assert (done.returncode, done.stdout) == (3, "")
        assert "ordersync run --sandbox" in done.stderr
        done = run(command, cwd=tmp_path, redis__url=f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
        assert (done.returncode, done.stdout) == (3, "")
        assert "redis://:***@127.0.0.1" in done.stderr
        assert SECRET not in done.stderr
    unused = world.one.removesuffix("0") + "3"
    login = login_settings(world.sandbox, unused, tmp_path, api__attempts="1", account="other")
    away = f"http://127.0.0.1:{free_port()}"
    for wrong, told in (({"api__base_url": away}, away), ({"api__client_secret": SECRET}, "401")):
        done = run("run", "--once", cwd=tmp_path, **(login | wrong))
        assert (done.returncode, done.stdout) == (3, "")
        assert told in done.stderr
        assert SECRET not in done.stderr
        assert "Traceback" not in done.stderr


# --- status -----------------------------------------------------------------------------------------------


def test_status(world: World, tmp_path: Path) -> None:
    """A table for people, sorted by account; with `--json` the same facts, and the name of the stream."""
    done = run("status", cwd=tmp_path, redis__url=world.two)
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    cells = [re.split(r" {2,}", line) for line in (head, *lines)]
    assert cells[0] == [
        *("account", "resource", "health", "records", "events", "dead", "fresh", "last success"),
    ]
    assert [row[:6] for row in cells[1:]] == [
        [account, "orders", "ok", "20", "20", "0"] for account in ("acme", "globex")
    ]
    rows = json.loads(run("status", "--json", cwd=tmp_path, redis__url=world.two).stdout)
    assert [row["last_success"] for row in rows] == [row[7] for row in cells[1:]]
    assert rows[0]["stream"] == "ordersync:{acme}:stream:orders"
    assert 0 <= rows[0]["fresh_s"] < 60


def test_status_of_an_empty_redis(world: World, tmp_path: Path) -> None:
    """Where no worker has been, `status` says so and what to do; `--json` is an empty list."""
    empty = world.one.removesuffix("0") + "9"
    done = run("status", cwd=tmp_path, redis__url=empty)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ordersync run" in done.stdout
    assert run("status", "--json", cwd=tmp_path, redis__url=empty).stdout == "[]\n"


# --- config -----------------------------------------------------------------------------------------------


def test_config_show(world: World, tmp_path: Path) -> None:
    """Lines that can go into `.env`, and JSON: the same settings, every one of them, secrets hidden."""
    given = {
        "api__client_secret": SECRET,
        "api__page_size": "7",
        "redis__url": f"redis://me:{SECRET}@somewhere:6379/0",
        "redis__queue_url": f"redis://somewhere:6379/1?password={SECRET}",
        "poll__intervals": '{"orders": 5}',
    }
    text = run("config", "show", cwd=tmp_path, **given)
    as_json = run("config", "show", "--json", cwd=tmp_path, **given)
    assert (text.returncode, as_json.returncode, text.stderr + as_json.stderr) == (0, 0, "")
    assert SECRET not in text.stdout + as_json.stdout
    lines = dict(line.split("=", 1) for line in text.stdout.splitlines())
    assert set(lines) == set(variable_names()) - {"ORDERSYNC_SECRETS_DIR"}
    assert lines["ORDERSYNC_API__PAGE_SIZE"] == "7"
    assert lines["ORDERSYNC_REDIS__URL"] == "redis://me:***@somewhere:6379/0"
    assert lines["ORDERSYNC_REDIS__QUEUE_URL"] == "redis://somewhere:6379/1?password=***"
    assert json.loads(lines["ORDERSYNC_POLL__INTERVALS"]) == {"orders": 5}
    shown = json.loads(as_json.stdout)
    assert shown["api"]["page_size"] == 7
    assert shown["poll"]["intervals"] == {"orders": 5}
    two = run("config", "show", "--json", cwd=world.folder, accounts_file="accounts.toml").stdout
    assert list(json.loads(two)["accounts"]) == ["acme", "globex"]
    assert (world.folder / "secret").read_text() not in two


def test_config_names(tmp_path: Path) -> None:
    """Every variable with its meaning, even where settings are bad."""
    done = run("config", "show", "--names", cwd=tmp_path, api__page_size="x")
    assert done.returncode == 0
    known = dict(re.split(r" {2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    assert known == variable_names()
    assert all(known.values())
    as_json = run("config", "show", "--names", "--json", cwd=tmp_path, api__page_size="x")
    assert json.loads(as_json.stdout) == known


# --- tail -------------------------------------------------------------------------------------------------


def test_tail_for_people(world: World, tmp_path: Path) -> None:
    """A line for each event: the last ten, the last `-n`, or all behind `--from`; times, words and ids in columns."""

    def subjects(*words: str) -> list[str]:
        done = run("tail", "orders", "--no-follow", *words, cwd=tmp_path, redis__url=world.one)
        assert (done.returncode, done.stderr) == (0, "")
        found = [LINE.fullmatch(line) for line in done.stdout.splitlines()]
        assert None not in found
        return [line[3] for line in found if line]

    with redis.Redis.from_url(world.one, decode_responses=True) as client:
        entries = client.xrange(STREAM)
    assert isinstance(entries, list)
    ids, known = [entry for entry, _ in entries], [fields["subject"] for _, fields in entries]
    assert subjects() == known[-10:]
    assert subjects("-n", "0") == []
    assert subjects("--last", "1000") == known
    assert subjects("--from", ids[4]) == known[5:]
    assert subjects("--from", ids[-1]) == []


def test_tail_as_json_lines(world: World, tmp_path: Path) -> None:
    """Each line is a whole event; its `data` is byte for byte what OrderMesh serves."""
    words = ("tail", "--json", "--no-follow", "--from", "0")
    done = run(*words, cwd=tmp_path, redis__url=world.one)
    events = [
        msgspec.json.decode(line, type=dict[str, msgspec.Raw]) for line in done.stdout.encode().splitlines()
    ]
    data = {msgspec.json.decode(event["subject"]): bytes(event["data"]) for event in events}
    assert data == world.sandbox.store.truth()
    assert {frozenset(event) for event in events} == {frozenset({"entry_id", *FIELDS})}


def test_tail_of_several_accounts(world: World, tmp_path: Path) -> None:
    """The one that the settings name, else `--account` is asked for; an unknown one is told with the known ones."""
    words = ("tail", "--json", "--no-follow", "-n", "1")
    done = run(*words, cwd=tmp_path, redis__url=world.two)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--account with one of: acme, globex" in done.stderr
    for arguments, settings in ((("--account", "acme"), {}), ((), {"account": "acme"})):
        done = run(*words, *arguments, cwd=tmp_path, redis__url=world.two, **settings)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["source"] == "/ordersync/acme/orders"
    done = run(*words, "--account", "nobody", cwd=tmp_path, redis__url=world.two)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no account 'nobody' in this Redis. There is: acme, globex" in done.stderr
    done = run(*words, cwd=tmp_path, redis__url=world.one, account="elsewhere")
    assert json.loads(done.stdout)["source"] == "/ordersync/default/orders"  # the only one there is


async def test_tail_follows_until_ctrl_c(world: World, tmp_path: Path) -> None:
    """It shows what comes, also when Redis sends nothing for a while; Ctrl-C ends it with 0 and without a word."""
    with (
        redis.Redis.from_url(world.one) as client,
        Program(tmp_path, ORDERSYNC, "tail", "--json", "-n", "1", redis__url=world.one) as tail,
    ):
        await eventually(lambda: tail.out.endswith("\n"))
        ((_, fields),) = client.xrevrange(STREAM, count=1)
        try:
            entry = client.xadd(STREAM, {**fields, b"id": b"order:new"})
            await eventually(lambda: tail.out.count("\n") == 2)
        finally:
            client.xdel(STREAM, entry)
        assert json.loads(tail.out.splitlines()[1])["id"] == "order:new"
        tail.process.send_signal(signal.SIGINT)
        assert await tail.ended(5) == 0
        assert tail.err == ""


@pytest.mark.parametrize(
    "words", ["tail --json --no-follow --from 0", "status", "config show --names", "--help"]
)
async def test_a_reader_that_goes_away(world: World, tmp_path: Path, words: str) -> None:
    """`ordersync tail --json --no-follow | head -1` is no failure: exit 0, and not a word on stderr."""
    env = program_env(redis__url=world.one)
    shell = f"{ORDERSYNC} {words} | head -1 | wc -l; echo ${{PIPESTATUS[0]}}"
    done = await run_beside("bash", "-c", shell, cwd=tmp_path, env=env)
    assert (done.stdout.split(), done.stderr) == (["1", "0"], "")


def test_an_event_of_somebody_else(world: World, tmp_path: Path) -> None:
    """An entry that is no event ends `tail` with 1 and names the entry, after the events before it."""
    with redis.Redis.from_url(world.one) as client:
        entry = client.xadd(STREAM, {"a": "b"})
        assert isinstance(entry, bytes)
        try:
            done = run("tail", "--no-follow", "--from", "0", cwd=tmp_path, redis__url=world.one)
        finally:
            client.xdel(STREAM, entry)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 20)
    assert entry.decode() in done.stderr
    assert "Traceback" not in done.stderr


# --- colours ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["status", "run --once"])
def test_colours(world: World, tmp_path: Path, words: str) -> None:
    """On a terminal there are colours, in answers and logs; with NO_COLOR, or off a terminal, there are none."""
    settings = login_settings(world.sandbox, world.one, tmp_path)
    env = program_env(**settings) | {"TERM": "xterm"}
    assert "\x1b[" in on_a_terminal(*words.split(), cwd=tmp_path, env=env)
    assert "\x1b[" not in on_a_terminal(*words.split(), cwd=tmp_path, env=env | {"NO_COLOR": "1"})
    done = run(*words.split(), cwd=tmp_path, **settings)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr


# --- sandbox ----------------------------------------------------------------------------------------------


async def test_the_sandbox(tmp_path: Path) -> None:
    """It prints what is needed to use it, in words that can be pasted or as JSON, and ends with Ctrl-C and 0."""
    words = (ORDERSYNC, "sandbox", "--port", "0", "--orders", "5", "--changes-per-second", "0")
    with Program(tmp_path, *words, "--json") as sandbox:
        await eventually(lambda: sandbox.out.endswith("\n"))
        ready = json.loads(sandbox.out)
        assert list(ready) == ["url", "client_id", "client_secret", "orders"]
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{ready['url']}/_sandbox/stats")).json()["orders"] == 5
        port = ready["url"].rpartition(":")[2]
        done = await run_beside(ORDERSYNC, "sandbox", "--port", port, cwd=tmp_path, env=program_env())
        assert (done.returncode, done.stdout) == (3, "")
        assert f"port {port} on 127.0.0.1 is in use" in done.stderr
        sandbox.process.send_signal(signal.SIGINT)
        assert await sandbox.ended(5) == 0
        assert sandbox.err == ""
    with Program(tmp_path, *words) as sandbox:
        await eventually(lambda: "Ctrl-C ends it" in sandbox.out)
        exports = dict(re.findall(r"export (ORDERSYNC_\w+)=(\S+)", sandbox.out))
        assert list(exports) == [
            f"ORDERSYNC_API__{name}" for name in ("BASE_URL", "CLIENT_ID", "CLIENT_SECRET")
        ]
        env = program_env(data_dir=str(tmp_path / "data")) | exports
        done = await run_beside(ORDERSYNC, "run", "--once", cwd=tmp_path, env=env)
        assert done.returncode == 0
        assert done.stdout.startswith("default/orders: complete: 5 records read, 5 events published")
