"""Cancellation: calls that must run to their end, and errors that leave a task group."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")

AGAIN_SECONDS = 1.0
"""Seconds between two cancellations of a task that has not ended: the time it has to clean up."""


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end even if the caller is cancelled meanwhile, and raise the cancellation afterwards.

    Use it for calls that write to Redis: after an interrupted call, the caller cannot know whether the write happened,
    and the connection may hand its answer to the next call. `work` needs timeouts of its own.

    An anyio shield alone is not enough, because arq cancels tasks directly, past every cancel scope. A single wait is
    not enough either: a cancelled scope cancels again in each turn of the loop, and a user may press Ctrl-C twice.
    """
    task = asyncio.ensure_future(work)
    try:
        # Not `asyncio.shield`: from Python 3.14 on it logs an error of the work after the caller was cancelled.
        await asyncio.wait([task])
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
    return task.result()


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel a task repeatedly until it has ended. The caller reads its result, if it wants to.

    One cancellation is not enough: before Python 3.12 `asyncio.wait_for`, which redis-py uses for every command, drops
    a cancellation that arrives as its call completes, and the task would run for ever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=AGAIN_SECONDS)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Unwrap the exception group of a task group in the block: raise its first error."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
