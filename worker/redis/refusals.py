"""What Redis says when it refuses a command, in words that say what to do. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

import redis.exceptions

from worker.errors import RedisFull


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason for which Redis refuses commands.

    `code`: what its answer begins with, or contains if a script passes it on. `kinds`: the classes of redis-py, which
    may remove the code.
    """

    code: str
    text: str
    advice: str
    kinds: tuple[type[Exception], ...] = ()


REFUSALS = (
    Refusal(
        "MISCONF",
        "Redis cannot write to its disk and therefore refuses writes",
        "Read the log of the server; often its disk is full. Nothing is lost: the worker continues when a snapshot "
        "succeeds (BGSAVE)",
    ),
    Refusal(
        "READONLY",
        "the server is a replica and refuses writes",
        "Set ORDERSYNC_REDIS__URL to the primary. After a failover the worker finds the new primary alone if the "
        "address leads there",
        (redis.exceptions.ReadOnlyError,),
    ),
    Refusal(
        "NOPERM",
        "the Redis user may not do this",
        "Give it the rights of its role in deploy/redis/users.acl. `ordersync doctor` lists the missing ones",
        (redis.exceptions.NoPermissionError,),
    ),
    Refusal(
        "WRONGPASS",
        "Redis refuses the user name or the password",
        "Correct them in ORDERSYNC_REDIS__URL, or enable the user in Redis",
        (redis.exceptions.AuthenticationError,),
    ),
    Refusal(
        "NOAUTH",
        "Redis requires a password",
        "Set it in ORDERSYNC_REDIS__URL: redis://USER:PASSWORD@HOST:PORT/0",
    ),
    Refusal(
        "WRONGTYPE",
        "a key of the account contains a value that this program did not write",
        "`ordersync doctor` names the key. Restore the old value, or delete the key if you know what it is",
    ),
    Refusal(
        "LOADING",
        "Redis is loading its data after a start",
        "Wait: the worker continues automatically",
        (redis.exceptions.BusyLoadingError,),
    ),
    Refusal(
        "MASTERDOWN",
        "the server is a replica that has lost its primary",
        "Set ORDERSYNC_REDIS__URL to the primary, or repair the replication",
        (redis.exceptions.MasterDownError,),
    ),
    Refusal(
        "NOREPLICAS",
        "Redis has too few replicas and therefore refuses writes",
        "Start the replicas, or lower min-replicas-to-write",
    ),
    Refusal(
        "BUSY ",
        "Redis is busy with a script",
        "Wait; if it lasts, look for scripts of other programs",
    ),
)


def refusal_of(error: BaseException) -> Refusal | None:
    """Return why Redis refused a command; None for an error that is not in the table."""
    text = str(error)
    for refusal in REFUSALS:
        # A script passes an error of its commands on, with its own words before or behind it.
        if isinstance(error, refusal.kinds) or text.startswith(refusal.code) or f"{refusal.code} " in text:
            return refusal
    return None


def explain(error: BaseException) -> str:
    """Return what has happened and what to do about it, in sentences; the text of another error as it is."""
    if is_full(error):
        return str(RedisFull())
    refusal = refusal_of(error)
    if refusal is None or not isinstance(error, redis.exceptions.RedisError):
        return str(error)
    return f"{refusal.text} ({str(error).rstrip('.')}). {refusal.advice}."


def is_full(error: BaseException) -> bool:
    """True if Redis refused a write because it has reached maxmemory. Redis 6.2 wraps this in a script error."""
    return isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM command not allowed" in str(error)
