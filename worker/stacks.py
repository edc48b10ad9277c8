"""Where the code stands, for the last words of a process that hangs."""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

MOST = 2000
"""Characters of one stack."""


def of_main_thread() -> str:
    """The calls of the main thread, the innermost first: `sleep:12 < poll:40 < ...`, each with its line."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - the documented way
    return _joined([f"{each.name}:{each.lineno}" for each in reversed(traceback.extract_stack(frame))])


def of_task(task: asyncio.Task[Any]) -> str:
    """The calls of a task that waits, the innermost first. A task itself shows no more than its outermost one."""
    calls: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(calls) < MOST:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        frame = frame or getattr(waiting, "ag_frame", None)
        if frame is not None:
            calls.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
        # What it awaits: another coroutine, a generator, or a future, which awaits nothing.
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return _joined(calls[::-1])


def _joined(calls: list[str]) -> str:
    return " < ".join(calls)[:MOST]
