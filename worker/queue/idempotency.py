"""The effect of an event once, although the event may come twice.

A consumer that is killed between its work and its acknowledgement gets the event again. Here the event's id is
remembered together with what it did, so that both happen or neither does: in Redis by one script, in SQL by one
transaction. Ids tell events, not attempts: a replayed event has the id that it had.

To do the work again on a replay, leave the helper out for deliveries that are `replayed`.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgpack

from worker.cancellation import finish
from worker.errors import SettingsError
from worker.keys import Keys
from worker.redis import scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from worker.queue.consumer.delivery import Delivery

WEEK = 7 * 86_400
_pack = partial(msgpack.packb, use_bin_type=False)


class RedisOnce:
    """Effects in Redis, each once for a group.

        once = RedisOnce(redis, group="warehouse")

        async def handle(delivery):
            def effect(pipe):
                pipe.hincrby("stock", delivery.event.subject, -1)
            await once.apply(delivery, effect)

    `account`: whose events. `remember`: seconds for which an id is kept, at least as long as an event may come
    again (the age up to which events are kept). On a cluster the keys of the effect must carry the hash tag
    `{ACCOUNT}`, as all keys of the account do.
    """

    def __init__(self, client: Redis, *, group: str, account: str = "default", remember: int = WEEK) -> None:
        self._redis, self._keys, self._group, self._remember = client, Keys(account), group, remember
        self._once = scripts.load(client, "worker.queue", "once")

    async def apply(self, delivery: Delivery, effect: Callable[[Pipeline], object]) -> bool:
        """Send the commands that `effect` queues on a pipeline, unless that was done before: whether it was done now.

        They run in one step together with the mark, which is set last. MULTI would set the mark although a command
        fails; here a failing command leaves the event undone, and it comes again. What stands before that command
        has happened, as with MULTI: put first what may fail. Never cut short by a cancellation.

        Raises:
            redis.exceptions.RedisError: A command failed, or Redis is away or full; the event is not marked.

        """
        pipe = self._redis.pipeline(transaction=False)
        effect(pipe)
        encode = self._redis.get_encoder().encode  # type: ignore[no-untyped-call]
        commands = [[*str(name).split(), *map(encode, words)] for (name, *words), _ in pipe.command_stack]
        key = self._keys.processed(self._group, delivery.event.id)
        return bool(await finish(self._once(keys=[key], args=[_pack(commands), self._remember])))

    async def seen(self, delivery: Delivery) -> bool:
        """Whether the effect of an event is done: to spare the work that leads to it."""
        return bool(await self._redis.exists(self._keys.processed(self._group, delivery.event.id)))


class DatabaseCursor(Protocol):
    """The part of a cursor of DB-API 2.0 (PEP 249) that is used here."""

    @property
    def rowcount(self) -> int:
        """Rows that the last statement has changed."""

    def execute(self, operation: str, parameters: Any = ..., /) -> object:
        """Run a statement."""

    def close(self) -> object:
        """Let go of it."""


class DatabaseConnection(Protocol):
    """The part of a connection of DB-API 2.0 (PEP 249) that is used here."""

    def cursor(self) -> Any:
        """A new cursor."""

    def commit(self) -> object:
        """Keep what was done."""

    def rollback(self) -> object:
        """Undo what was done."""


class SqlOnce:
    """Effects in a SQL database, each once for a group.

        once = SqlOnce(connection, group="warehouse")
        once.create_table()

        def work(delivery):                       # in a thread: anyio.to_thread.run_sync(work, delivery)
            with once.transaction(delivery) as new:
                if new:
                    connection.execute("UPDATE stock SET ...")

    The connection must not commit by itself. `placeholder`: how its driver writes a parameter (`?` for sqlite3,
    `%s` for psycopg and most others). A connection is for one transaction at a time: with `parallel` handlers give
    each thread its own.
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
            raise SettingsError(f"{table!r} is not the name of a table")
        if _commits_by_itself(connection):
            raise SettingsError(
                "this connection commits each statement by itself, so an effect could be kept without its mark. Open "
                "it without autocommit (sqlite3: leave isolation_level alone)."
            )
        self._connection, self._group, self._table, self._now = connection, group, table, now
        self._mark = (
            f"INSERT INTO {table} (consumer_group, event_id, done_at) "  # noqa: S608 - an identifier, checked above
            f"VALUES ({placeholder}, {placeholder}, {placeholder}) ON CONFLICT DO NOTHING"
        )
        self._forget = f"DELETE FROM {table} WHERE consumer_group = {placeholder} AND done_at < {placeholder}"  # noqa: S608

    def create_table(self) -> None:
        """Make the table that remembers, if there is none."""
        self._execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (consumer_group VARCHAR(255) NOT NULL, event_id VARCHAR(255) "
            "NOT NULL, done_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (consumer_group, event_id))"
        )
        self._connection.commit()

    @contextmanager
    def transaction(self, delivery: Delivery) -> Iterator[bool]:
        """A transaction that marks the event, and commits at the end; False if the event was dealt with before.

        The mark is set first: another process that is at the same event waits for it, and then finds it. An error
        undoes both the effect and the mark.
        """
        try:
            new = self._execute(self._mark, (self._group, delivery.event.id, self._now())) == 1
            yield new
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    def forget(self, older_than: float = WEEK) -> int:
        """Forget events that were dealt with more than so many seconds ago. How many were forgotten."""
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


def _commits_by_itself(connection: DatabaseConnection) -> bool:
    """Whether it is known to. `isolation_level` says so with sqlite3 alone; others mean their default by None."""
    modules = {kind.__module__ for kind in type(connection).__mro__}
    by_level = "sqlite3" in modules and getattr(connection, "isolation_level", "") is None
    return by_level or getattr(connection, "autocommit", False) is True
