"""Cancellation: what must not be cut short, and errors that come out of a task group."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")

AGAIN_SECONDS = 1.0
"""Between two cancellations of a task that has not ended by the first one: what it cleans up is not cut short."""


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end even when the caller is cancelled meanwhile; the cancellation follows then.

    For calls to Redis that change something: cut short, it would be unknown whether they did, and the
    answer could be taken for that of the next call. `work` must be bounded by timeouts of its own.
    (An anyio shield alone does not do: arq cancels tasks directly, past every cancel scope. Nor does a
    single wait: a cancelled scope cancels again on every turn of the loop, and a person presses Ctrl-C twice.)
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
    """Cancel a task until it has ended; how is for the caller to ask.

    Once is not enough: before Python 3.12 `asyncio.wait_for`, through which redis-py sends every command, swallows
    a cancellation that comes in the moment in which its work is done, and the task would go on for ever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=AGAIN_SECONDS)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Around a task group: the first error itself comes out, not a group of one."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
