"""Check that the Redis user has the permissions that the worker needs, by trying each command.

Every command that the daemon, its scripts and arq use is sent once. The keys have the prefixes of the accounts, expire,
and are deleted at the end. The commands of consumers are not checked.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import redis.exceptions

from ordersync_consumer.redaction import words_of
from ordersync_consumer.server_state import is_passing
from worker.admin.finding import Finding, Severity
from worker.config.urls import hide_password
from worker.errors import RedisFull, RedisUnavailable
from worker.redis.connections import connect
from worker.redis.refusals import explain, is_full

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from worker.keys import KeySpace

Command = tuple[Any, ...]
MAX_NAMES = 12
"""Number of refused commands that a finding names."""
_KEPT_MS = 60_000


async def check_rights(
    url: str, accounts: Iterable[str], *, queue: bool, space: KeySpace
) -> AsyncIterator[Finding]:
    """Yield the findings for the keys of `accounts` in `space`, and for those of arq if its `queue` is there."""
    try:
        failed = await _try(url, commands_of(accounts, queue=queue, space=space))
    except (redis.exceptions.RedisError, OSError) as error:
        yield Finding("redis", Severity.PROBLEM, f"Redis cannot be used: {words_of(error)}", exit_status=3)
        return
    yield _judge(failed, space)


async def check_usable(url: str, accounts: Iterable[str], *, queue: bool, space: KeySpace) -> None:
    """Check that the server can be used, with the parameters and in the words of `check_rights`.

    Raises:
        RedisUnavailable: It refuses a command in a way that does not pass while one waits.

    """
    refusal = _lasting(await _try(url, commands_of(accounts, queue=queue, space=space)), space)
    if refusal is not None:
        advice = refusal.advice[:1].upper() + refusal.advice[1:]
        raise RedisUnavailable(f"{hide_password(url)}: {refusal.text}. {advice}.")


async def _try(url: str, commands: list[Command]) -> list[tuple[Command, Exception]]:
    """Send the commands; return those that the server refused."""
    client = connect(url)
    try:
        pipe = client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers = await pipe.execute(raise_on_error=False)
    finally:
        await client.aclose()
    return [
        (command, answer)
        for command, answer in zip(commands, answers, strict=True)
        if isinstance(answer, Exception)
    ]


def commands_of(accounts: Iterable[str], *, queue: bool, space: KeySpace) -> list[Command]:
    """Return the commands to try, in this order, on unique keys."""
    token = uuid.uuid4().hex[:8]
    bases = [f"{space.of(name).base}doctor:{token}" for name in accounts]
    commands = [command for base in bases for command in _of_the_worker(base)]
    if queue:
        commands += _of_arq(f"{space.queues}doctor:{token}", f"arq:doctor:{token}")
    return commands


def _judge(failed: list[tuple[Command, Exception]], space: KeySpace) -> Finding:
    if any(is_full(error) for _, error in failed):
        return Finding("redis", Severity.PROBLEM, str(RedisFull()), exit_status=3)
    for _, error in failed:
        if is_passing(error):  # its disk is full, or it starts: that says nothing of permissions
            return Finding("redis", Severity.PROBLEM, explain(error), exit_status=3)
    if not failed:
        return Finding("redis", Severity.OK, "the Redis user has all required permissions")
    return _lasting(failed, space) or _refused(failed, space)


def _lasting(failed: list[tuple[Command, Exception]], space: KeySpace) -> Finding | None:
    """Return the finding for refusals that do not pass by themselves; None if there are none."""
    if slots := [item for item in failed if _is_of_cluster(item[1])]:
        return Finding(
            "redis", Severity.PROBLEM,
            f"the server is a node of a cluster, which cannot store all keys of the worker ({slots[0][1]})",
            "write redis+cluster://h1:6379,h2:6379 in ORDERSYNC_REDIS__URL, and set ORDERSYNC_REDIS__QUEUE_URL to a "
            "server that is not in cluster mode",
            exit_status=3,
        )  # fmt: skip
    # If a command is refused, later ones fail because its key does not exist.
    denied = [item for item in failed if isinstance(item[1], redis.exceptions.NoPermissionError)]
    return _refused(denied, space) if denied else None


def _is_of_cluster(error: Exception) -> bool:
    """Return True for the answer of a node of a cluster to keys in several slots, or in slots that it does not have."""
    return str(error).startswith(("CROSSSLOT", "MOVED "))


def _refused(failed: list[tuple[Command, Exception]], space: KeySpace) -> Finding:
    names = list(dict.fromkeys(str(command[0]) for command, _ in failed))
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    refused = ", ".join(names[:MAX_NAMES]) + more
    begins = dict.fromkeys(_key(command, space) for command, _ in failed)
    patterns = " and ".join(f"{begin}*" for begin in begins if begin)
    return Finding(
        "redis", Severity.PROBLEM, f"the Redis user lacks permissions: {refused} ({failed[0][1]})",
        f"permit these commands{f' on the keys {patterns}' if patterns else ''} with ACL SETUSER", exit_status=3,
    )  # fmt: skip


def _key(command: Command, space: KeySpace) -> str:
    """Return the prefix of the keys of a command; "" if it has none."""
    prefixes = (space.prefix, "arq:")
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
        ("XINFO STREAM", stream),
        ("XINFO GROUPS", stream),
        ("XPENDING", stream, "group"),
        ("XLEN", stream),
        ("XRANGE", stream, "-", "+", "COUNT", 1),
        ("XREVRANGE", stream, "+", "-", "COUNT", 1),
        ("XACK", stream, "group", "0-1"),
        ("XDEL", stream, "0-1"),
        ("XTRIM", stream, "MINID", "0-1"),
        ("HGET", fields, "field"),
        ("HMGET", fields, "field"),
        ("HGETALL", fields),
        ("HKEYS", fields),
        ("HLEN", fields),
        ("HINCRBY", fields, "number", 1),
        ("HDEL", fields, "field"),
        ("SREM", names, "nobody"),
        ("ZCARD", scores),
        ("ZRANGEBYSCORE", scores, 0, 0),
        ("ZREVRANGEBYSCORE", scores, 0, 0),
        ("ZREM", scores, "nobody"),
        ("ZREMRANGEBYSCORE", scores, 0, 0),
        ("LRANGE", line, 0, 0),
        ("LTRIM", line, 0, 0),
        ("GET", text),
        ("MGET", text),
        ("EXISTS", text),
        ("STRLEN", text),
        ("PTTL", text),
        ("SETRANGE", text, 0, "0"),
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
        ("ZRANGE", queue, 0, 0),
        ("ZRANGEBYSCORE", queue, "-inf", "+inf", "LIMIT", 0, 1),
        ("EVAL", "return redis.call('ZCARD', KEYS[1])", 1, queue),
        ("ZSCORE", queue, "member"),
        ("ZCARD", queue),
        ("ZREM", queue, "member"),
        ("PSETEX", job, _KEPT_MS, "1"),
        ("GET", job),
        ("EXISTS", job),
        ("PTTL", job),
        ("INCR", job),
        ("EXPIRE", job, 60),
        ("MULTI",),
        ("EXEC",),
        ("DEL", queue, job),
    ]
