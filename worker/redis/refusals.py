"""What Redis says when it refuses a command, in words that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import redis.exceptions

from ordersync_consumer.client import answer
from ordersync_consumer.redaction import words_of
from ordersync_consumer.server_state import is_full
from worker.errors import RedisFull

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = [
    "REFUSALS",
    "Refusal",
    "explain",
    "is_full",
    "is_wrong_value",
    "refusal_of",
    "unusable",
    "writes_refused",
]


class Refusal(msgspec.Struct, frozen=True):
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
        "CLUSTERDOWN",
        "the cluster has no node for a part of the keys",
        "Start the missing nodes, or wait until their replicas have taken their place: the worker then continues "
        "automatically",
        (redis.exceptions.ClusterDownError,),
    ),
    Refusal(
        "a slot is moving",
        "the keys of the account are being moved to another node of the cluster",
        "Wait: the worker continues automatically. If it lasts, CLUSTER NODES shows a slot that is migrating; "
        "finish or cancel its move",
    ),
    Refusal(
        "UNCONFIRMED",
        "too few replicas have the last commit",
        "Start the replicas and look at their lag (INFO replication), or lower ORDERSYNC_REDIS__WAIT_REPLICAS",
    ),
    Refusal(
        "BUSY ",
        "Redis is busy with a script",
        "Wait; if it lasts, look for scripts of other programs",
    ),
)


def refusal_of(error: BaseException) -> Refusal | None:
    """Return why Redis refused a command; None for an error that is not in the table."""
    text = words_of(error)
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
        return words_of(error)
    # The first sentence of the server says it; Valkey explains MISCONF in four.
    return f"{refusal.text} ({words_of(error).partition('. ')[0].rstrip('.')}). {refusal.advice}."


def unusable(where: str, error: BaseException) -> str:
    """Return that a server does not answer, or refuses; `where`: its address without a password, or `Redis`."""
    if isinstance(error, redis.exceptions.ResponseError) or refusal_of(error) or is_full(error):
        return f"{where} cannot be used: {explain(error).rstrip('.')}."
    return (
        f"{where} cannot be reached: {words_of(error).rstrip('.')}. Check that the server runs, and "
        "ORDERSYNC_REDIS__URL."
    )


async def writes_refused(client: Redis) -> str:
    """Return why Redis refuses writes although it answers reads: it cannot write to its disk; "" if it does not.

    Redis refuses PING too in that state, so that health checks notice it.
    """
    try:
        await answer(client.ping())
    except redis.exceptions.ResponseError as error:
        refusal = refusal_of(error)
        return explain(error) if refusal is not None and refusal.code == "MISCONF" else ""
    return ""


def is_wrong_value(error: BaseException) -> bool:
    """True if Redis refused a command because a key contains what another program has written."""
    text = str(error)
    return "WRONGTYPE" in text or "is not an integer" in text or "is not a valid float" in text
