"""Cancellation: what must not be cut short, and errors that come out of a task group."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end even when the caller is cancelled meanwhile; the cancellation follows then.

    For calls to Redis that change something: cut short, it would be unknown whether they did, and the
    answer could be taken for that of the next call. `work` must be bounded by timeouts of its own.
    (An anyio shield alone does not do: arq cancels tasks directly, past every cancel scope. Nor does a
    single wait: a cancelled scope cancels again on every turn of the loop, and a person presses Ctrl-C twice.)
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


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
