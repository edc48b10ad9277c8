"""Where the code stands, for the last words of a process that hangs."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from typing import Any

MOST = 2000
"""Characters of one stack."""
DEEPEST = 100
"""Calls that are followed."""


def of_main_thread() -> str:
    """The calls of the main thread, the innermost first: `sleep:12 < poll:40 < ...`, each with its line."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - the documented way
    return _joined([f"{item.name}:{item.lineno}" for item in reversed(traceback.extract_stack(frame))])


def of_task(task: asyncio.Task[Any]) -> str:
    """The calls of a task that waits, the innermost first. A task itself shows no more than its outermost one.

    A call that waits for another task (`asyncio.wait_for`, our `finish`) holds it in one of its variables: it goes on
    there.
    """
    calls: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(calls) < DEEPEST:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is None:
            break
        calls.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
        below = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
        waiting = (
            below if hasattr(below, "cr_frame") or hasattr(below, "gi_frame") else _other(frame.f_locals)
        )
    return _joined(calls[::-1])


def _other(variables: dict[str, Any]) -> Any:
    """What another task does that one of the variables holds, or None."""
    tasks = [item for item in variables.values() if isinstance(item, asyncio.Task) and not item.done()]
    return tasks[0].get_coro() if tasks else None


def _joined(calls: list[str]) -> str:
    return " < ".join(calls)[:MOST]
