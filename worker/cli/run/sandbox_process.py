"""The sandbox as a child process, for `ordersync run --sandbox`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from worker.cli.common.sandbox import LocalOrderMesh, leave, remove
from worker.errors import OrdersyncError
from worker.redis.embedded.processes import look

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

START_SECONDS = 60.0
_PACKAGES = ("fpdf", "httptools", "jsonschema_rs", "starlette", "uvicorn")
"""What the extra `sandbox` installs."""


class SandboxFailed(OrdersyncError):
    """The sandbox did not start."""

    code = "sandbox_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The sandbox did not start: {reason}. If its packages are missing, run: pip install "
            "'ordermesh-sync[sandbox]'"
        )


@asynccontextmanager
async def local_ordermesh(
    orders: int, data_dir: Path, changes_per_second: float = 2.0
) -> AsyncIterator[LocalOrderMesh]:
    """Run a sandbox while the block runs. It ends with this process, however this process ends.

    Its address and login are in the data folder meanwhile, for the commands beside it.

    Raises:
        SandboxFailed: The sandbox did not start in time, or its packages are missing.

    """
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise SandboxFailed(f"not installed: {', '.join(missing)}")
    process = await asyncio.create_subprocess_exec(
        # Without the current folder on its path (-P): a folder `worker` there is not this package.
        *(sys.executable, "-P", "-m", "worker.sandbox", "--port", "0", "--watch-stdin"),
        *("--orders", str(orders), "--changes-per-second", str(changes_per_second)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C must reach only the worker, which ends the sandbox last
    )
    try:
        local = msgspec.structs.replace(await _ready(process), process=look(process.pid))
        leave(data_dir, local)
        yield local
    finally:
        remove(data_dir)
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
