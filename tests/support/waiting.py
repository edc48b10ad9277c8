"""Waiting for something that must happen, with a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 100.0
"""Seconds to wait for what must come. A slow machine with much else to do needs a part of it, a quick one none."""


def wait_for(check: Callable[[], bool]) -> None:
    """Wait until `check()` is true, in a test without an event loop."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s"
        time.sleep(0.01)


async def eventually(check: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until `check()`, which may be a coroutine function, gives something true; give it back."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)
