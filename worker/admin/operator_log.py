"""The operator log: who changed what of an account, when, and how it ended.

The stream `ordersync:{A}:operator_log` keeps the last 10,000 changes that people have made with commands, and
reloads of the configuration. It is written after the change: what cannot be written down is done all the same, and the
command or the log says so.
"""

from __future__ import annotations

import getpass
import shlex
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from ordersync_consumer.redaction import words
from worker.cancellation import finish
from worker.capture.state.changes import tell_change
from worker.clock import rfc3339
from worker.redis.connections import answer
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.keys import Keys

KEPT = 10_000
_AT_ONCE = 100
DONE = "done"
_FIELDS = ("by", "redis_user", "command", "outcome")


def login_name() -> str:
    """Return the name of the user of this process and of its host, such as `anna@host-1`."""
    try:
        login = getpass.getuser()
    except (OSError, KeyError):  # a container may run as a user without a name
        login = "somebody"
    return f"{login}@{socket.gethostname()}"


class OperatorEntry(msgspec.Struct, frozen=True):
    """One change.

    Attributes:
        at: When it was written, in seconds since 1970, by the clock of Redis.
        by: User and host.
        redis_user: Name of the Redis user; "" if the server has no names.
        command: The command with its arguments, without secrets.
        outcome: `done`, or the error.

    """

    at: float
    by: str
    redis_user: str
    command: str
    outcome: str

    def as_json(self) -> dict[str, Any]:
        """Return the entry as commands print it."""
        return {"at": rfc3339(self.at), **{name: getattr(self, name) for name in _FIELDS}}


class OperatorLog:
    """The operator log of one account."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys, self._key = redis, keys, keys.operator_log

    async def add(self, command: Sequence[str], outcome: str = DONE, *, by: str = "") -> None:
        """Write down a change.

        Args:
            command: The command and its arguments.
            outcome: `done`, or the error.
            by: Who made it; "" for the user of this process.

        Raises:
            RedisError, OSError: Redis cannot be reached, or refuses it.

        """
        fields: dict[Any, Any] = {
            "by": words(by or login_name()),
            "redis_user": await self._redis_user(),
            "command": words(shlex.join(command)),
            "outcome": words(outcome),
        }
        await finish(answer(self._redis.xadd(self._key, fields, maxlen=KEPT, approximate=True)))
        await tell_change(self._redis, self._keys)

    async def latest(self, count: int) -> list[OperatorEntry]:
        """Return the last changes, the latest first."""
        entries = await self._redis.xrevrange(self._key, count=count)
        return [_parse(entry_id, fields) for entry_id, fields in entries]

    async def _redis_user(self) -> str:
        try:
            name = await answer(self._redis.acl_whoami())
        except Exception:  # noqa: BLE001 - a server that does not know it, or forbids it, is no reason to lose the rest
            return ""
        return name.decode() if isinstance(name, bytes) else str(name)


class OperatorWatch:
    """Tells the log of a worker what people change: a command has a log of its own, which nobody keeps.

    Args:
        redis: The server.
        keys: The keys of the account.
        last: The entry that was told last; "" to begin with the next one.

    Attributes:
        last: The entry that was told last.

    """

    def __init__(self, redis: Redis, keys: Keys, last: str = "") -> None:
        self._redis, self._key = redis, keys.operator_log
        self._log = get_logger(account=keys.account)
        self.last = last

    async def tell(self) -> None:
        """Log what was written since the last call; the first call only looks where the operator log ends.

        Raises:
            RedisError, OSError: Redis cannot be reached, or refuses it.

        """
        if not self.last:
            newest = await self._redis.xrevrange(self._key, count=1)
            self.last = newest[0][0].decode() if newest else "0-0"
            return
        for entry_id, fields in await self._redis.xrange(self._key, min=f"({self.last}", count=_AT_ONCE):
            entry = _parse(entry_id, fields)
            self._log.info("changed_by_operator", by=entry.by, command=entry.command, outcome=entry.outcome)
            self.last = entry_id.decode()


def _parse(entry_id: bytes, fields: dict[bytes, bytes]) -> OperatorEntry:
    values = [fields.get(name.encode(), b"").decode("utf-8", "replace") for name in _FIELDS]
    return OperatorEntry(int(entry_id.partition(b"-")[0]) / 1000, *values)
