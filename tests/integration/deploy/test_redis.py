"""deploy/redis: what the worker, a consumer and an operator may do suffices for their work, and is no more."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import httpx
import pytest
import redis

from tests.support.deployment.deployed import DEPLOY, DeployedServer, deployed, make_secrets, server_binary
from tests.support.node import example
from tests.support.page import page_of
from tests.support.programs import Program, program_env, run_beside
from tests.support.streams import fields_of
from tests.support.waiting import PATIENCE, eventually
from tests.support.webhooks import webhook_receiver
from worker.config.resources import RESOURCES
from worker.keys import Keys, KeySpace
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

KEYS = Keys("shop")
STREAM, DEAD = KEYS.stream("orders"), KEYS.dead("orders")

SEVERAL = """
import json, sys
from worker import cli
for words in json.loads(sys.argv[1]):
    sys.argv = ["ordersync", *words]
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    print(f"[{status}] {' '.join(words)}", flush=True)
"""
"""Runs commands of `ordersync` one after the other in one process: most of the time of one is its imports."""


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DeployedServer]:
    with deployed(request.param, tmp_path_factory.mktemp(request.param)) as running:
        with running.client("root") as admin:
            admin.flushall()
        yield running


@pytest.fixture
def admin(server: DeployedServer) -> Iterator[Any]:
    with server.client("root") as client:
        server.refusals()
        yield client


async def commands(server: DeployedServer, user: str, folder: Path, *wanted: tuple[str, ...]) -> str:
    """What commands of `ordersync` write under a user, when all of them have succeeded and nothing was refused."""
    env = program_env(secrets_dir=str(server.secrets / user), account="shop", data_dir=str(folder / "data"))
    done = await run_beside(sys.executable, "-c", SEVERAL, json.dumps(wanted), cwd=folder, env=env)
    ends = re.findall(r"^\[(\d+)\] (.*)$", done.stdout, re.MULTILINE)
    assert ends == [("0", " ".join(words)) for words in wanted], done.stdout + done.stderr
    assert server.refusals() == []
    return done.stdout


@pytest.fixture
def small() -> Iterator[SandboxServer]:
    """An OrderMesh with few orders: a failing consumer starts its command for each."""
    with SandboxServer(orders=8) as running:
        yield running


async def test_everybody_can_do_their_work(
    server: DeployedServer, admin: Any, small: SandboxServer, tmp_path: Path
) -> None:
    """The daemon over all resources, a consumer that fails and one that does not, and every command of an operator.

    The server's own log of refusals is empty after each, but for the worker's look at the configuration of memory.
    """
    worker = {
        "secrets_dir": str(server.secrets / "worker"),
        "account": "shop",
        "data_dir": str(tmp_path / "data"),
        "api__base_url": small.url,
        "api__requests_per_second": "1000",
        "poll__intervals": json.dumps(dict.fromkeys(RESOURCES, 1)),
        "events__groups": '{"early": ["orders"]}',
        "events__previous": "true",
        "retention__every": "1",
        "retention__max_entries": "2",
    }
    with Program(tmp_path, **worker) as program:
        await eventually(lambda: admin.xlen(STREAM) == 8)
        await program.logged("poll_done", len(RESOURCES) * 2, 60)
        small.store.change(1, status="Fulfilled")
        await eventually(lambda: admin.xlen(STREAM) == 9)
        program.process.terminate()
        assert await program.ended() == 0
        assert program.logs("stream_trimmed")
        errors = {line["event"] for line in program.logs() if line["level"] not in {"info", "debug"}}
        assert errors <= {"retention_held_back", "jobs_cut_short"}
    assert [refused["object"] for refused in server.refusals()] == ["config|get"]
    assert {group["name"] for group in admin.xinfo_groups(STREAM)} == {b"early"}

    consume = ("consume", "--once", "--batch", "50")
    sink = ("--", "sh", "-c", "cat > /dev/null")
    failing = ("--", "sh", "-c", "cat > /dev/null; exit 3")
    await commands(
        server, "consumer", tmp_path,
        (*consume, "--group", "warehouse", "orders", *sink),
        (*consume, "--group", "failing", "--max-deliveries", "1", "orders", *failing),
    )  # fmt: skip
    letters = [entry_id.decode() for entry_id, _ in admin.xrange(DEAD)]
    subject = admin.xrange(DEAD)[0][1][b"subject"].decode()
    assert len(letters) == 9

    replay = ("replay", "--group", "warehouse", "orders", "--since", "2h")
    told = await commands(
        server, "operator", tmp_path,
        ("status",), ("status", "--json"), ("groups",), ("groups", "--json"),
        ("pause", "orders", "--reason", "stocktaking"), ("status",), ("resume", "orders"),
        ("runs",), ("history",), ("timeline", subject), ("coverage",), ("coverage", "orders", "--json"),
        ("dead", "list"), ("dead", "show", letters[0]), ("dead", "replay", letters[0]),
        ("dead", "drop", "--yes", letters[1]), (*replay, "--dry-run"), replay,
        ("groups", "create", "late", "orders", "--from", "1h"), ("groups", "show", "late"),
        ("groups", "drop", "--yes", "failing"), ("accounts", "list"),
        ("history", "--json"),
    )  # fmt: skip
    async with (
        page_of(server.url("operator")) as page,
        httpx.AsyncClient(base_url=page.url, timeout=PATIENCE) as http,
    ):
        assert "shop" in (await http.get("/")).text
        assert "v1 " in (await http.get("/timeline", params={"id": subject})).text
    assert server.refusals() == []
    assert "stocktaking" in told
    assert "9 events redelivered" in told
    assert "could not be written" not in told
    assert '"redis_user": "operator", "command": "pause orders' in told
    assert admin.xlen(DEAD) == 7
    await commands(server, "worker", tmp_path, ("erase", subject, "--offline", "--yes"))
    left = [fields for _, fields in admin.xrange(STREAM) if fields[b"subject"].decode() == subject]
    assert [fields[b"type"] for fields in left] == [b"io.ordermesh.order.erased"]
    with Program(
        tmp_path, sys.executable, "-m", "worker.cli", "tail", "orders",
        secrets_dir=str(server.secrets / "operator"), account="shop",
    ) as tail:  # fmt: skip
        await eventually(lambda: len(tail.out.splitlines()) >= 5)
    await commands(server, "consumer", tmp_path, (*consume, "--group", "warehouse", "orders", *sink))
    assert admin.xpending(STREAM, "warehouse")["pending"] == 0


async def test_the_examples_run_as_a_consumer(server: DeployedServer, admin: Any, tmp_path: Path) -> None:
    """Python, Node and shell need no more than the consumer's rights."""
    stream, url = Keys("examples").stream("orders"), server.url("consumer")
    for number in range(3):
        admin.xadd(stream, fields_of(number))
    shell = (str(DEPLOY / "examples" / "consume.sh"), url, stream, "sh", "one", "sh", "-c", "cat >> taken")
    if shutil.which("redis-cli"):
        done = await run_beside(*shell, cwd=tmp_path, env={**program_env(), "EVENTS": "2"})
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "taken").read_text().count('{"id":"a"}') == 2
    database = str(tmp_path / "orders.db")
    kit = (sys.executable, str(DEPLOY / "examples" / "consumer.py"), url, database)
    done = await run_beside(
        *kit, "--group", "kit", "--account", "examples", "--once", cwd=tmp_path, env=program_env()
    )
    assert done.returncode == 0, done.stderr
    admin.xadd(stream, fields_of(3, b'{"id":"a","status":"Odd"}'))
    plain = (sys.executable, str(DEPLOY / "examples" / "plain.py"), url, str(tmp_path / "plain.db"))
    words = ("--account", "examples", "--refuse", "Odd", "--max-deliveries", "1", "--once")
    done = await run_beside(*plain, *words, cwd=tmp_path, env=program_env())
    assert done.returncode == 0, done.stderr
    assert admin.xlen(Keys("examples").dead("orders")) == 1
    admin.sadd("ordersync:accounts", "examples")
    with webhook_receiver() as receiver:
        forward = ("forward", "--group", "http", "--account", "examples", "--once", "--to", receiver.url)
        await commands(server, "consumer", tmp_path, forward)
        assert len(receiver.taken) == 4
    admin.srem("ordersync:accounts", "examples")
    assert server.refusals() == []


async def test_node_runs_as_a_consumer(server: DeployedServer, admin: Any, tmp_path: Path) -> None:
    """The client of Node would like to see INFO; it does without."""
    stream = Keys("node").stream("orders")
    admin.xadd(stream, fields_of(1))
    words = ("--events", "1", "--json")
    done = await run_beside(
        *example(tmp_path), server.url("consumer"), stream, *words, cwd=tmp_path, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert admin.xpending(stream, "warehouse")["pending"] == 0
    assert {refused["object"] for refused in server.refusals()} <= {"info"}


ENDLESS = "while(true)do(1)end"
ADMINS = [
    "SCRIPT KILL", "FUNCTION KILL", "CLIENT LIST", "CLIENT KILL ID 1", "CONFIG GET requirepass", "ACL LOAD", "ACL LOG",
    "SLOWLOG GET", "FUNCTION DELETE x", "FUNCTION LIST",
]  # fmt: skip
"""What the admin alone may do."""
SCRIPTS = [
    f"EVAL {ENDLESS} 0", f"EVAL_RO {ENDLESS} 0", "EVALSHA 0000000000000000000000000000000000000000 0",
    "SCRIPT LOAD return(1)", f"EVAL {ENDLESS} 1 {STREAM}", f"EVAL_RO {ENDLESS} 1 {STREAM}",
]  # fmt: skip
"""What stops Redis for good, or prepares that. The worker alone may send scripts."""
NOBODYS = [
    "FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "RANDOMKEY", "CLIENT TRACKING ON BCAST", "CONFIG SET maxmemory 1",
    "CONFIG REWRITE", "ACL LIST", "ACL SETUSER me on nopass", "SHUTDOWN NOSAVE", "SAVE", "BGREWRITEAOF",
    "REPLICAOF 127.0.0.1 1", "MONITOR", "SWAPDB 0 1",
    "MIGRATE 127.0.0.1 1 other 0 1", "SCRIPT FLUSH", "FUNCTION FLUSH", "MODULE LIST",
    "SUBSCRIBE everything", "PUBLISH everything 1", "GET other", "SET other 1", "DEL other",
    "EVAL return(redis.call('SET','other','1')) 0", "EVAL return(redis.call('FLUSHALL')) 0",
    f"XGROUP SETID {STREAM} warehouse $", f"RENAME {STREAM} ordersync:gone", f"RESTORE {STREAM} 0 x",
]  # fmt: skip
"""What none of the users may do."""
TO_EVENTS = [
    f"XADD {STREAM} * id 1", f"XTRIM {STREAM} MAXLEN 0", f"XDEL {STREAM} 1-0", f"DEL {STREAM}", f"UNLINK {STREAM}",
    f"SET {STREAM} 1", f"EXPIRE {STREAM} 1", f"EVAL return(redis.call('XADD',KEYS[1],'*','id','1')) 1 {STREAM}",
    f"EVAL return(redis.call('DEL',KEYS[1])) 1 {STREAM}",
]  # fmt: skip
"""What nobody but the worker may do to events."""
TO_THE_WORKER = [
    f"GET {KEYS.token}", f"SET {KEYS.token} 1", f"EVAL return(redis.call('GET','{KEYS.token}')) 0",
    f"HSET {KEYS.cursor('orders')} mark 0", f"HSET {KEYS.lease('orders')} fence 0", f"XADD {KEYS.runs} * a 1",
    "ZADD ordersync:queue:1 1 job", "SET arq:job:1 x", f"SREM {KEYS.base}x y", "SADD ordersync:accounts other",
]  # fmt: skip
"""What nobody but the worker may do to its state. Its token opens OrderMesh."""
OTHERS = Keys("other")
ROWS = KeySpace().account_rows
LOAD = "FUNCTION LOAD #!lua"
READ = f"XREADGROUP GROUP g c STREAMS {STREAM} >"
REFUSED = {
    "worker": [*NOBODYS, *ADMINS, f"XGROUP DESTROY {STREAM} warehouse", f"XGROUP DELCONSUMER {STREAM} warehouse c"],
    "consumer": [
        *NOBODYS, *ADMINS, *SCRIPTS, *TO_EVENTS, *TO_THE_WORKER, "INFO", LOAD, f"XRANGE {DEAD} - +",
        f"GET {STREAM}", f"HGETALL {KEYS.cursor('orders')}", f"XRANGE {KEYS.runs} - +",
        f"XGROUP DESTROY {STREAM} other", f"XGROUP DELCONSUMER {STREAM} other c", f"XDEL {DEAD} 1-0",
        f"HSET {KEYS.paused} orders x", f"HGETALL {KEYS.contract}", "GET arq:job:1", f"HGETALL {ROWS}",
    ],
    "operator": [
        *NOBODYS, *ADMINS, *SCRIPTS, LOAD, f"HSET {KEYS.states('orders')}:0 a b", f"SREM {KEYS.retries} a",
        f"DEL {KEYS.cursor('orders')}", f"HDEL {KEYS.contract} orders", f"HSET {KEYS.budget} tokens 0",
        f"ZADD {KEYS.refresh_queue('orders')} 1 x", f"HSET {KEYS.gaps('orders')} a b", f"SET {KEYS.source} x",
        *TO_EVENTS, *TO_THE_WORKER, f"XADD {DEAD} * a 1", f"DEL {DEAD}",
        READ, f"XACK {STREAM} g 1-0",
    ],
    "monitor": [
        *NOBODYS, *ADMINS, *SCRIPTS, LOAD, *TO_EVENTS, *TO_THE_WORKER, READ, f"XACK {STREAM} g 1-0",
        f"XRANGE {STREAM} - +", f"XRANGE {DEAD} - +", f"HGETALL {KEYS.cursor('orders')}", f"HSET {KEYS.paused} a b",
        f"XGROUP CREATE {STREAM} g 0", f"FCALL x 1 {STREAM}", f"HGETALL {ROWS}", f"HSET {ROWS} a b",
    ],
    "admin": [
        *NOBODYS, *SCRIPTS, LOAD, *TO_EVENTS, *TO_THE_WORKER, READ, f"XRANGE {STREAM} - +", f"XLEN {STREAM}",
        f"HSET {KEYS.paused} a b", "FUNCTION FLUSH", f"FCALL x 1 {STREAM}",
    ],
    "consumer-warehouse": [
        *NOBODYS, *ADMINS, *SCRIPTS, LOAD, *TO_EVENTS, *TO_THE_WORKER, "INFO", f"XRANGE {DEAD} - +",
        f"XRANGE {OTHERS.stream('orders')} - +", f"XADD {OTHERS.dead('orders')} * a 1",
        f"XRANGE {KEYS.stream('shipments')} - +", f"XADD {KEYS.dead('shipments')} * a 1",
        f"XREADGROUP GROUP g c STREAMS {OTHERS.stream('orders')} >", f"SREM {KEYS.replayed('orders', 'billing')} 1-0",
        f"DEL {KEYS.consumer_lock('orders', 'billing', 'one')}", f"SET {KEYS.processed('billing', 'x')} 1",
        f"FCALL x 1 {OTHERS.stream('orders')}", f"FCALL x 1 {KEYS.cursor('orders')}",
    ],
    "health": [
        *NOBODYS, *ADMINS, *SCRIPTS, LOAD, *TO_EVENTS, *TO_THE_WORKER, "INFO", "TIME", f"XRANGE {STREAM} - +",
        "EVAL return(1) 0", "SELECT 0",
    ],
}  # fmt: skip


@pytest.mark.parametrize("user", REFUSED)
def test_what_is_not_theirs_is_refused(server: DeployedServer, user: str) -> None:
    """Each of these commands is answered with NOPERM, inside of scripts as well, and nothing of it is done."""
    with server.client("root") as admin:
        admin.set("other", "kept")
        admin.xadd(STREAM, {"id": "kept"}, id="*")
        before = admin.xlen(STREAM)
        done = []
        with server.client(user) as client:
            for command in REFUSED[user]:
                try:
                    client.execute_command(*command.split(" "))
                    done.append(command)
                except redis.exceptions.NoPermissionError:
                    pass
                except redis.ResponseError as error:
                    if not re.search("permission|user executing the script can't", str(error)):
                        done.append(f"{command}: {error}")
        assert done == []
        assert admin.get("other") == b"kept"
        assert admin.xlen(STREAM) == before
        server.refusals()


def test_nobody_without_a_name(server: DeployedServer) -> None:
    """A program that knows the address alone may do nothing at all."""
    with redis.Redis(port=server.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    worker = redis.Redis(port=server.port, username="worker", password="")
    with worker, pytest.raises(redis.AuthenticationError):
        worker.ping()


MAY = {
    "worker": [
        "INFO", "TIME", f"XADD {STREAM} * id 1", f"GET {KEYS.token}", "EVAL return(1) 0", "SCRIPT LOAD return(1)",
    ],
    "consumer": [
        f"XGROUP CREATE {STREAM} g 0", READ, f"XACK {STREAM} g 1-0", f"XADD {DEAD} * a 1", f"XLEN {STREAM}",
        "SMEMBERS ordersync:accounts", f"GET {KEYS.processed('g', 'x')}",
    ],
    "operator": [
        "INFO", f"XRANGE {STREAM} - + COUNT 1", f"XRANGE {DEAD} - + COUNT 1", f"HGETALL {KEYS.cursor('orders')}",
        f"HSET {KEYS.paused} a b", f"HDEL {KEYS.paused} a", f"SADD {KEYS.retries} orders",
        f"HSET {ROWS} a b", f"HINCRBY {ROWS} *revision 1", f"HDEL {ROWS} a",
    ],
    "monitor": ["INFO", "DBSIZE", "MEMORY STATS", f"XLEN {STREAM}", f"XINFO GROUPS {STREAM}", f"XLEN {DEAD}"],
    "admin": [
        "INFO", "CONFIG GET maxmemory", "CLIENT LIST", "ACL LOG", "ACL WHOAMI", "SLOWLOG GET", "FUNCTION LIST",
        "LATENCY LATEST",
    ],
    "consumer-warehouse": [
        READ, f"XACK {STREAM} g 1-0", f"XADD {DEAD} * a 1", f"SREM {KEYS.replayed('orders', 'warehouse')} 1-0",
        f"SET {KEYS.consumer_lock('orders', 'warehouse', 'one')} 1 PX 9",
        f"SET {KEYS.processed('warehouse', 'x')} 1 PX 9",
    ],
    "health": ["PING"],
}  # fmt: skip
"""What each user may do, in this order."""


def test_what_is_theirs_is_done(server: DeployedServer, admin: Any) -> None:
    """Each of these commands is done for its user, and nobody is refused one."""
    admin.xadd(STREAM, {"id": "kept"})
    for user, commands in MAY.items():
        with server.client(user) as client:
            for command in commands:
                client.execute_command(*command.split(" "))
    assert server.refusals() == []
    admin.delete(KEYS.retries)


def test_the_admin_stops_what_stops_redis(server: DeployedServer) -> None:
    """A script without an end, of whoever may send one, is stopped by the shipped user for that."""
    with server.client("root") as root:
        root.config_set("busy-reply-threshold", 10)

    def endless() -> None:
        with server.client("worker") as worker, suppress(redis.RedisError):
            worker.execute_command("EVAL", "while true do end", 0)

    script = Thread(target=endless)
    script.start()
    with server.client("admin") as admin, server.client("operator") as operator:

        def busy() -> bool:
            with suppress(redis.ResponseError):
                admin.execute_command("SCRIPT", "KILL")
                return True
            return False

        for _ in range(500):
            if busy():
                break
            sleep(0.01)
        script.join(10)
        assert not script.is_alive()
        assert operator.info("server")
        server.refusals()


def test_the_operator_sees_every_key_but_the_token(server: DeployedServer, admin: Any) -> None:
    """A new key of the account is to be given to the operator in users.acl, or named here as hidden."""
    hidden = {"token", "token_lock", "processed"}
    for name in dir(Keys):
        if name.startswith("_") or name in {"account", "base", "prefix"}:
            continue
        key = getattr(KEYS, name)
        if callable(key):
            count = key.__func__.__code__.co_argcount - 1
            key = key(*["orders", "warehouse", "one"][:count])
        if not isinstance(key, str):
            continue  # a table of keys that are properties themselves
        answer = admin.execute_command("ACL", "DRYRUN", "operator", "TYPE", key)
        assert (answer == b"OK") == (name not in hidden), (name, answer)


def test_the_server_is_durable_and_never_evicts(server: DeployedServer, admin: Any) -> None:
    """What the worker asks of a server, in the configuration that is delivered, as this server understood it."""
    config = admin.config_get()
    wanted = {
        "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
        "hash-max-listpack-value": "256", "hash-max-listpack-entries": "256",
    }  # fmt: skip
    assert wanted == {name: config[name] for name in wanted}
    assert int(config["maxmemory"]) == 1 << 30


DEBIANS = Path("/etc/redis/redis.conf")


@pytest.mark.skipif(not DEBIANS.exists(), reason="no redis.conf of Debian")
def test_after_the_configuration_of_debian(tmp_path: Path) -> None:
    """As docs/operate/deploy.md says: our file is included as the last line, and its values are in force."""
    server = DeployedServer(server_binary("redis"), tmp_path)
    place = f"daemonize no\nlogfile ''\npidfile {tmp_path}/pid\ndir {tmp_path}\n"
    ours = f"include {DEPLOY / 'redis' / 'redis.conf'}\naclfile {tmp_path / 'users.acl'}\n"
    server.configuration = tmp_path / "debian.conf"
    server.configuration.write_text(DEBIANS.read_text() + place + ours)
    server.start()
    try:
        with server.client("root") as admin:
            config = admin.config_get()
            assert (config["appendonly"], config["save"], config["maxmemory"]) == ("yes", "", str(1 << 30))
        cli = (
            "redis-cli",
            "-p",
            str(server.port),
            "--user",
            "health",
            "--pass",
            "-",
            "--no-auth-warning",
            "ping",
        )
        assert subprocess.run(cli, capture_output=True, text=True, check=True).stdout == "PONG\n"
    finally:
        server.stop()


# --- the secrets ----------------------------------------------------------------------------------------------


def address(folder: Path, user: str) -> str:
    """The secret address of a user."""
    return (folder / user / "ORDERSYNC_REDIS__URL").read_text()


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    """Long, different, unchanged by another run; a new one where one was removed, and its hash with it."""
    folder = tmp_path / "secrets"
    make_secrets(folder)
    users = (folder / "redis" / "users.acl").read_text().splitlines()
    urls = {user: address(folder, user) for user in ("worker", "consumer", "operator", "monitor", "admin")}
    found = [
        re.fullmatch(rf"redis://{user}:([0-9a-f]{{48}})@redis:6379/0", url) for user, url in urls.items()
    ]
    passwords = {match[1] for match in found if match}
    assert len(passwords) == 5
    assert not any(password in line for password in passwords for line in users)
    make_secrets(folder)
    assert (folder / "redis" / "users.acl").read_text().splitlines() == users
    (folder / "consumer" / "ORDERSYNC_REDIS__URL").unlink()
    make_secrets(folder, "--redis", "127.0.0.1:6379")
    assert address(folder, "worker") == urls["worker"].replace("redis:6379", "127.0.0.1:6379")
    again = (folder / "redis" / "users.acl").read_text().splitlines()
    assert [old.split()[1] for old, new in zip(users, again, strict=True) if old != new] == ["consumer"]


def test_secrets_are_for_their_owner_but_can_be_seen_in_a_container(tmp_path: Path) -> None:
    """A container sees a file and not its folder: the folder keeps others out, the file lets any user in."""
    made = make_secrets(tmp_path / "secrets")
    assert "ORDERSYNC_API__CLIENT_SECRET" in made.stderr
    for path in (tmp_path / "secrets").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o444)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
