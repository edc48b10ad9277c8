"""Idempotency: apply the effect of an event once, although the event may be delivered twice.

A consumer that is killed between its work and its acknowledgement gets the event again. The classes of this module
store the id of the event together with its effect, so that both happen or neither: in Redis in one script, in SQL in
one transaction. A replayed event has the same id; to apply its effect again, bypass these classes for deliveries that
are `replayed`.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

from redis.asyncio import RedisCluster

from ordersync_consumer.cancellation import finish
from ordersync_consumer.errors import SettingsError
from ordersync_consumer.functions import function
from ordersync_consumer.keys import PREFIX, Keys
from ordersync_consumer.servers.cluster import at
from ordersync_consumer.servers.connect import like

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from ordersync_consumer.consumer.delivery import Delivery

WEEK = 7 * 86_400


class RedisOnce:
    """Applies effects in Redis, each once per group.

        once = RedisOnce(redis, group="warehouse")

        async def handle(delivery):
            def effect(pipe):
                pipe.hincrby("stock", delivery.event.subject, -1)
            await once.apply(delivery, effect)

    Args:
        client: A client of redis-py, also a `RedisCluster`, or one of `connect`. On a cluster the keys of an effect
            must have the hash tag `{ACCOUNT}`, like all keys of the account. Of a `RedisCluster` its login, timeouts
            and certificates are taken for connections of its own: close these with `aclose` or `async with`.
        group: Name of the group.
        account: Name of the account.
        prefix: Begin of every key, ORDERSYNC_REDIS__PREFIX of the worker.
        remember: Seconds for which an id is stored: at least as long as events are kept, since they may be
            delivered again.

    Raises:
        SettingsError: The client is not an asynchronous one.

    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        group: str,
        account: str = "default",
        prefix: str = PREFIX,
        remember: int = WEEK,
    ) -> None:
        self._keys, self._group, self._remember = Keys(account, prefix), group, remember
        self._own = like(client) if isinstance(client, RedisCluster) else None
        given = self._own if isinstance(client, RedisCluster) else client
        self._redis = at(cast("Redis", given), self._keys.base)
        self._once = function(self._redis, "once")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections of its own, which it has with a `RedisCluster`. The client stays open."""
        if self._own is not None:
            await self._own.aclose()

    async def apply(self, delivery: Delivery, effect: Callable[[Pipeline], object]) -> bool:
        """Run the commands that `effect` queues on a pipeline, unless that was done before. True if they ran now.

        They run atomically, together with the mark, which is set last. If a command fails, the mark is not set and the
        event is delivered again (MULTI would set it). As with MULTI, earlier commands are not undone: put first the
        commands that may fail. A cancellation does not cut the call short.

        Raises:
            redis.exceptions.RedisError: A command failed, or Redis is away or full. The mark is not set.

        """
        pipe = self._redis.pipeline(transaction=False)
        effect(pipe)
        encode = self._redis.get_encoder().encode  # type: ignore[no-untyped-call] # untyped in redis-py
        words: list[str | bytes | int] = [self._remember]
        for (name, *arguments), _ in pipe.command_stack:
            command = [*str(name).split(), *map(encode, arguments)]
            words += (len(command), *command)
        key = self._keys.processed(self._group, delivery.event.id)
        return bool(await finish(self._once(keys=[key], args=words)))

    async def seen(self, delivery: Delivery) -> bool:
        """True if the effect of an event was applied. Saves the work of preparing it again."""
        return bool(await self._redis.exists(self._keys.processed(self._group, delivery.event.id)))


class DatabaseCursor(Protocol):
    """The part of a DB-API 2.0 cursor (PEP 249) that is used here."""

    @property
    def rowcount(self) -> int:
        """Number of rows that the last statement changed."""

    def execute(self, operation: str, parameters: Any = ..., /) -> object:
        """Run a statement."""

    def close(self) -> object:
        """Close the cursor."""


class DatabaseConnection(Protocol):
    """The part of a DB-API 2.0 connection (PEP 249) that is used here."""

    def cursor(self) -> Any:
        """Return a new cursor."""

    def commit(self) -> object:
        """Commit the transaction."""

    def rollback(self) -> object:
        """Undo the transaction."""


class SqlOnce:
    """Applies effects in an SQL database, each once per group.

        once = SqlOnce(connection, group="warehouse")
        once.create_table()

        def work(delivery):                       # in a thread: anyio.to_thread.run_sync(work, delivery)
            with once.transaction(delivery) as new:
                if new:
                    connection.execute("UPDATE stock SET ...")

    Args:
        connection: A connection that is not in autocommit mode. It runs one transaction at a time: with `parallel`
            handlers, give each thread a connection.
        group: Name of the group.
        table: Name of the table of ids.
        placeholder: How the driver writes a parameter: `?` for sqlite3, `%s` for psycopg and most others.
        now: The time in seconds since 1970.

    Raises:
        SettingsError: The name of the table is invalid, or the connection is in autocommit mode.

    """

    def __init__(
        self,
        connection: DatabaseConnection,
        *,
        group: str,
        table: str = "ordersync_once",
        placeholder: str = "?",
        now: Callable[[], float] = time.time,
    ) -> None:
        if not table.replace(".", "_").isidentifier():
            raise SettingsError(f"{table!r} is not the name of a table.")
        if _is_autocommit(connection):
            raise SettingsError(
                "The connection is in autocommit mode, so an effect could be stored without its mark. Open it without "
                "autocommit (sqlite3: leave isolation_level at its default)."
            )
        self._connection, self._group, self._table, self._now = connection, group, table, now
        self._mark = (
            f"INSERT INTO {table} (consumer_group, event_id, done_at) "  # noqa: S608 - an identifier, checked above
            f"VALUES ({placeholder}, {placeholder}, {placeholder}) ON CONFLICT DO NOTHING"
        )
        self._forget = f"DELETE FROM {table} WHERE consumer_group = {placeholder} AND done_at < {placeholder}"  # noqa: S608 - as above

    def create_table(self) -> None:
        """Create the table of ids if it does not exist."""
        self._execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (consumer_group VARCHAR(255) NOT NULL, event_id VARCHAR(255) "
            "NOT NULL, done_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (consumer_group, event_id))"
        )
        self._connection.commit()

    @contextmanager
    def transaction(self, delivery: Delivery) -> Iterator[bool]:
        """Open a transaction that stores the id of the event, and commit it at the end of the block.

        The value is False if the effect was applied before. The id is stored first, so that another process with the
        same event waits for this transaction. An error undoes both the effect and the id.
        """
        try:
            new = self._execute(self._mark, (self._group, delivery.event.id, self._now())) == 1
            yield new
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    def forget(self, older_than: float = WEEK) -> int:
        """Delete ids that were stored more than `older_than` seconds ago. Return how many."""
        forgotten = self._execute(self._forget, (self._group, self._now() - older_than))
        self._connection.commit()
        return forgotten

    def _execute(self, statement: str, parameters: tuple[object, ...] = ()) -> int:
        cursor: DatabaseCursor = self._connection.cursor()
        try:
            cursor.execute(statement, parameters)
            return cursor.rowcount
        finally:
            cursor.close()


def _is_autocommit(connection: DatabaseConnection) -> bool:
    """True if autocommit is known to be on. `isolation_level` None means that for sqlite3 only."""
    modules = {kind.__module__ for kind in type(connection).__mro__}
    by_level = "sqlite3" in modules and getattr(connection, "isolation_level", "") is None
    return by_level or getattr(connection, "autocommit", False) is True
