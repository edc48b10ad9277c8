"""The rows of accounts in Redis: a hash from the name of an account to its row, with a counter of changes.

One key, so that each change is atomic also on a cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from worker.accounts import rows
from worker.accounts.rows import Disabled, Row, RowError
from worker.cancellation import finish
from worker.redis.connections import answer
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from worker.keys import KeySpace

REVISION = "*revision"
"""The field with the number of changes. It cannot be the name of an account."""
_PROBLEM = "*problem:"
"""Before the name of an account: why the workers do not serve it."""
_REMOVED = "*removed:"
"""Before the name of an account that was removed, and whose events are kept: who removed it."""


class StoredRow(msgspec.Struct, frozen=True):
    """A row, or why it cannot be read."""

    name: str
    row: Row | None
    problem: str = ""


class AccountStore:
    """The accounts that `ordersync accounts` manages."""

    def __init__(self, redis: Redis, keys: KeySpace) -> None:
        self._redis, self._key = redis, keys.account_rows

    async def revision(self) -> int:
        """Return the number of changes so far; 0 if there never was an account."""
        raw = await answer(self._redis.hget(self._key, REVISION))
        try:
            return int(raw or 0)
        except ValueError:
            return -1

    async def all(self) -> list[StoredRow]:
        """Return all rows, by name."""
        fields = await answer(self._redis.hgetall(self._key))
        return [_stored(text_of(name), fields[name]) for name in sorted(fields) if not name.startswith(b"*")]

    async def problems(self) -> dict[str, str]:
        """Return why accounts are not served, by name, as workers have noted it."""
        fields = await answer(self._redis.hgetall(self._key))
        return {
            text_of(name).removeprefix(_PROBLEM): text_of(text)
            for name, text in sorted(fields.items())
            if name.startswith(_PROBLEM.encode())
        }

    async def note_problems(self, problems: Mapping[str, str]) -> None:
        """Write down why accounts are not served, and nothing of those that are."""
        before = await self.problems()
        if gone := [f"{_PROBLEM}{name}" for name in before if name not in problems]:
            await finish(answer(self._redis.hdel(self._key, *gone)))
        if new := {f"{_PROBLEM}{name}": text for name, text in problems.items() if before.get(name) != text}:
            await finish(answer(self._redis.hset(self._key, mapping=new)))

    async def get(self, name: str) -> StoredRow | None:
        """Return the row of an account; None if there is none."""
        raw: Any = await answer(self._redis.hget(self._key, name))
        return None if raw is None else _stored(name, raw)

    async def idle(self) -> dict[str, str]:
        """Return the accounts that are not polled because a person wants that, and who that was, in words."""
        fields = await answer(self._redis.hgetall(self._key))
        found = {
            text_of(name).removeprefix(
                _REMOVED
            ): f"removed by {text_of(by)}; its events and its state are kept"
            for name, by in fields.items()
            if name.startswith(_REMOVED.encode())
        }
        for stored in (
            _stored(text_of(name), raw) for name, raw in fields.items() if not name.startswith(b"*")
        ):
            if stored.row is not None and (disabled := stored.row.disabled) is not None:
                found[stored.name] = f"disabled by {disabled.by}: {disabled.reason}"
        return found

    async def put(self, name: str, row: Row) -> None:
        """Store a row."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(self._key, f"{_REMOVED}{name}")
            pipe.hset(self._key, name, rows.write(row).decode())
            pipe.hincrby(self._key, REVISION, 1)
            await finish(pipe.execute())

    async def remove(self, name: str, by: str) -> bool:
        """Remove a row, and note who did; False if there was none."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(self._key, name)
            pipe.hset(self._key, f"{_REMOVED}{name}", by)
            pipe.hdel(self._key, f"{_PROBLEM}{name}")
            pipe.hincrby(self._key, REVISION, 1)
            removed, *_ = await finish(pipe.execute())
        return bool(removed)

    async def disable(self, name: str, row: Row, disabled: Disabled | None) -> None:
        """Disable an account, or enable it with None."""
        await self.put(name, msgspec.structs.replace(row, disabled=disabled))


def _stored(name: str, raw: bytes) -> StoredRow:
    try:
        return StoredRow(name, rows.read(raw))
    except RowError as error:
        return StoredRow(name, None, str(error))
