"""Check that the Redis user has the permissions that the worker needs, by trying each command.

Every command that the daemon, its scripts and arq use is sent once. The keys have the prefixes of the accounts, expire,
and are deleted at the end. The commands of consumers are not checked.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import redis.exceptions

from worker.admin.finding import Finding, Severity
from worker.errors import RedisFull
from worker.keys import QUEUE_PREFIX, Keys
from worker.redis.connections import connect
from worker.redis.refusals import is_full

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

Command = tuple[Any, ...]
MAX_NAMES = 12
"""Number of refused commands that a finding names."""
_KEPT_MS = 60_000


async def check_rights(url: str, accounts: Iterable[str], *, queue: bool) -> AsyncIterator[Finding]:
    """Yield the findings for the keys of `accounts`, and for those of arq if its `queue` is in this Redis."""
    commands = commands_of(accounts, queue=queue)
    client = connect(url)
    try:
        pipe = client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers = await pipe.execute(raise_on_error=False)
    except (redis.exceptions.RedisError, OSError) as error:
        yield Finding("redis", Severity.PROBLEM, f"Redis cannot be used: {error}", exit_status=3)
        return
    finally:
        await client.aclose()
    failed = [
        (command, answer)
        for command, answer in zip(commands, answers, strict=True)
        if isinstance(answer, Exception)
    ]
    for finding in _judge(failed):
        yield finding


def commands_of(accounts: Iterable[str], *, queue: bool) -> list[Command]:
    """Return the commands to try, in this order, on unique keys."""
    token = uuid.uuid4().hex[:8]
    bases = [f"{Keys(name).base}doctor:{token}" for name in accounts]
    commands = [command for base in bases for command in _of_the_worker(base)]
    if queue:
        commands += _of_arq(f"{QUEUE_PREFIX}doctor:{token}", f"arq:doctor:{token}")
    return commands


def _judge(failed: list[tuple[Command, Exception]]) -> Iterator[Finding]:
    if any(is_full(error) for _, error in failed):
        yield Finding("redis", Severity.PROBLEM, str(RedisFull()), exit_status=3)
        return
    if not failed:
        yield Finding("redis", Severity.OK, "the Redis user has all required permissions")
        return
    # If a command is refused, later ones fail because its key does not exist.
    denied = [item for item in failed if isinstance(item[1], redis.exceptions.NoPermissionError)]
    failed = denied or failed
    names = list(dict.fromkeys(str(command[0]) for command, _ in failed))
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    refused = ", ".join(names[:MAX_NAMES]) + more
    patterns = " and ".join(dict.fromkeys(f"{_key(command)}*" for command, _ in failed if _key(command)))
    yield Finding(
        "redis", Severity.PROBLEM, f"the Redis user lacks permissions: {refused} ({failed[0][1]})",
        f"permit these commands{f' on the keys {patterns}' if patterns else ''} with ACL SETUSER", exit_status=3,
    )  # fmt: skip


def _key(command: Command) -> str:
    """Return the prefix of the keys of a command; "" if it has none."""
    prefixes = ("ordersync:", "arq:")
    keys = (part for part in command[1:] if isinstance(part, str))
    return next((prefix for key in keys for prefix in prefixes if key.startswith(prefix)), "")


def _of_the_worker(base: str) -> list[Command]:
    stream, fields, names, scores, text, line = (
        f"{base}:{kind}" for kind in ("stream", "hash", "set", "zset", "string", "list")
    )
    made: list[Command] = [
        ("XADD", stream, "*", "field", "value"),
        ("HSET", fields, "field", "value"),
        ("SADD", names, "member"),
        ("ZADD", scores, 1, "member"),
        ("SET", text, "value", "PX", _KEPT_MS),
        ("RPUSH", line, "member"),
    ]
    return [
        *made,
        *[("PEXPIRE", command[1], _KEPT_MS) for command in made],
        ("XGROUP CREATE", stream, "group", "0"),
        ("XINFO GROUPS", stream),
        ("XPENDING", stream, "group"),
        ("XLEN", stream),
        ("XRANGE", stream, "-", "+", "COUNT", 1),
        ("XREVRANGE", stream, "+", "-", "COUNT", 1),
        ("XTRIM", stream, "MINID", "0-1"),
        ("HGET", fields, "field"),
        ("HMGET", fields, "field"),
        ("HGETALL", fields),
        ("HLEN", fields),
        ("HDEL", fields, "field"),
        ("ZCARD", scores),
        ("ZREVRANGEBYSCORE", scores, 0, 0),
        ("ZREM", scores, "nobody"),
        ("ZREMRANGEBYSCORE", scores, 0, 0),
        ("LRANGE", line, 0, 0),
        ("GET", text),
        ("EXISTS", text),
        ("STRLEN", text),
        ("SETBIT", text, 0, 0),
        ("GETBIT", text, 0),
        ("BITFIELD", text, "GET", "u1", 0),
        ("EVAL", "return redis.call('TIME')", 1, text),
        ("SCRIPT LOAD", "return 1"),
        ("UNLINK", line),
        ("DEL", stream, fields, names, scores, text, line),
    ]


def _of_arq(queue: str, job: str) -> list[Command]:
    return [
        ("ZADD", queue, 1, "member"),
        ("PEXPIRE", queue, _KEPT_MS),
        ("ZRANGEBYSCORE", queue, "-inf", "+inf", "LIMIT", 0, 1),
        ("ZSCORE", queue, "member"),
        ("ZCARD", queue),
        ("ZREM", queue, "member"),
        ("PSETEX", job, _KEPT_MS, "1"),
        ("GET", job),
        ("EXISTS", job),
        ("INCR", job),
        ("EXPIRE", job, 60),
        ("MULTI",),
        ("EXEC",),
        ("DEL", queue, job),
    ]
