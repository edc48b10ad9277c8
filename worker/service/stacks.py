"""The call stacks of threads and tasks, for the last log line of a process that hangs."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from typing import Any

MAX_CHARACTERS = 2000
"""Maximum characters of one stack."""
MAX_CALLS = 100
"""Maximum calls of one stack."""


def of_main_thread() -> str:
    """Return the calls of the main thread with their lines, innermost first: `sleep:12 < poll:40 < ...`."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - the documented way
    return _joined([f"{item.name}:{item.lineno}" for item in reversed(traceback.extract_stack(frame))])


def of_task(task: asyncio.Task[Any]) -> str:
    """Return the calls of a waiting task, innermost first. asyncio itself shows only the outermost one.

    A call that waits for another task (`asyncio.wait_for`, our `finish`) has it in one of its variables; the stack goes
    on in that task.
    """
    calls: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(calls) < MAX_CALLS:
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
    """Return the coroutine of a task that one of the variables contains, or None."""
    tasks = [item for item in variables.values() if isinstance(item, asyncio.Task) and not item.done()]
    return tasks[0].get_coro() if tasks else None


def _joined(calls: list[str]) -> str:
    return " < ".join(calls)[:MAX_CHARACTERS]
