"""The sandbox as a child process, for `ordersync run --sandbox`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from worker.errors import OrdersyncError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START_SECONDS = 60.0


class LocalOrderMesh(msgspec.Struct, frozen=True):
    """The address and the login of the sandbox."""

    url: str
    client_id: str
    client_secret: str
    orders: int


class SandboxFailed(OrdersyncError):
    """The sandbox did not start."""

    code = "sandbox_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The sandbox did not start: {reason}. If its packages are missing, run: pip install "
            "'ordermesh-sync[sandbox]'"
        )


@asynccontextmanager
async def local_ordermesh(orders: int, changes_per_second: float = 2.0) -> AsyncIterator[LocalOrderMesh]:
    """Run a sandbox while the block runs. It ends with this process, however this process ends.

    Raises:
        SandboxFailed: The sandbox did not start in time, or its packages are missing.

    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker.sandbox", "--port", "0", "--watch-stdin"),
        *("--orders", str(orders), "--changes-per-second", str(changes_per_second)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C must reach only the worker, which ends the sandbox last
    )
    try:
        yield await _ready(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 2)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _ready(process: asyncio.subprocess.Process) -> LocalOrderMesh:
    if process.stdout is None:
        raise AssertionError("the process was started without a pipe")
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        return msgspec.json.decode(line, type=LocalOrderMesh)
    except TimeoutError:
        raise SandboxFailed(f"it did not respond within {START_SECONDS:.0f} s") from None
    except msgspec.DecodeError:
        raise SandboxFailed("its process exited; its output is above") from None
