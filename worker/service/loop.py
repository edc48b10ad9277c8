"""The event loop of a command or of the daemon."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


def run_async(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run on uvloop where there is one."""
    # What was imported lives as long as the process: the collector need not look at it again and again.
    gc.freeze()
    if sys.platform == "win32":
        return asyncio.run(main())
    import uvloop  # noqa: PLC0415 - not there on every platform

    return uvloop.run(main())


async def ended_by_sigterm(main: Coroutine[Any, Any, None]) -> None:
    """Await `main`; SIGTERM cancels it, so that it cleans up, as Ctrl-C does. A daemon at work takes over both."""
    task, loop = asyncio.ensure_future(main), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        if (me := asyncio.current_task()) is not None and me.cancelling():
            await asyncio.wait([task])
            raise
        sys.exit(128 + signal.SIGTERM)
