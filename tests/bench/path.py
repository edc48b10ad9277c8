"""What one changed order passes on its way from tick to XADD: `python -m tests.bench.path`.

A worker with 50 orders, of which one has changed, polls once with a filter by modification (strategy `window`). The
script counts the files and functions of the product that run, and what the poll sends to Redis: script calls, commits,
loads of the cursor. A quiet poll is counted the same way.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

import worker
from tests.bench.harness import redis_server
from tests.support.worker import BenchContext
from worker.sandbox import SandboxServer, ServedContract
from worker.telemetry import log as logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.worker import Bench

ROOT = Path(worker.__file__).parents[1]
COMMIT = ROOT / "worker/capture/lua/commit.lua"


@contextmanager
def calls() -> Iterator[set[tuple[str, str]]]:
    """Yield the set of files and functions of the product that run in the block."""
    seen: set[tuple[str, str]] = set()

    def notice(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith((f"{ROOT}/worker/", f"{ROOT}/jobs/")):
            seen.add((code.co_filename.removeprefix(f"{ROOT}/"), code.co_qualname))

    sys.setprofile(notice)
    try:
        yield seen
    finally:
        sys.setprofile(None)


async def measure(url: str, act: Callable[[Bench], Any]) -> tuple[set[tuple[str, str]], Counter[str]]:
    """Return what ran in one poll after `act`, and how often it sent which command to Redis."""
    contract = ServedContract(since_honoured=True, sort_honoured=False, choices_honoured=False)
    with SandboxServer(orders=50, contract=contract) as sandbox:
        async with (
            BenchContext(sandbox, url, {"probe": True, "page_size": 100}) as bench,
            Redis.from_url(url) as other,
        ):
            await bench.redis.flushall()
            await bench.poll()
            await bench.poll()
            act(bench)
            commands: Counter[str] = Counter()
            commit = hashlib.sha1(COMMIT.read_bytes()).hexdigest()  # noqa: S324 - the name Redis gives a script
            async with other.monitor() as monitor:
                with calls() as seen:
                    run = await bench.poll()
                await other_mark(bench.redis)
                while (command := (await monitor.next_command())["command"]) != "ECHO the end":
                    words = command.split(" ")
                    commands[words[0]] += 1
                    commands["commits"] += commit in words[:2]
                    commands["cursor loads"] += words[0] == "HGETALL" and ":cursor:" in words[1]
            print(f"  ({run.plan}: {run.outcome}, {run.published} published)")
            return seen, commands


async def other_mark(redis: Any) -> None:
    """Send the command that ends the count."""
    await redis.echo("the end")


def main() -> None:
    """Measure and print."""
    logs.configure("json", "error")
    with redis_server(aof=False) as url:
        for name, act in (("one change", lambda b: b.sandbox.store.change(1)), ("quiet", lambda _: None)):
            seen, commands = asyncio.run(measure(url, act))
            files = {file for file, _ in seen}
            capture = sum(file.startswith("worker/capture/") for file in files)
            print(f"{name}: {len(files)} files ({capture} of capture), {len(seen)} functions")
            sent = ", ".join(f"{what} {commands[what]}" for what in ("EVALSHA", "commits", "cursor loads"))
            print(f"  sent to Redis: {sent}")


if __name__ == "__main__":
    main()
