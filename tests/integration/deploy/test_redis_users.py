"""The users of deploy/redis: what a worker, a consumer and an operator may do, and what is refused to them."""

from __future__ import annotations

import re
from contextlib import suppress
from threading import Thread
from time import sleep
from typing import Any

import pytest
import redis

from tests.support.deployment.deployed import DEAD, KEYS, STREAM, DeployedServer
from worker.keys import Keys, KeySpace

pytestmark = pytest.mark.anyio

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
