"""What a hostile gateway costs its neighbour: `python -m tests.bench.hostile`.

One daemon reads two accounts each second: `good`, whose gateway serves 100 orders, and `bad`, whose gateway answers in
one hostile way after another. For each way: how many polls of `good` ended a minute, how long they took, and the most
memory of the daemon. The first line has a second good gateway instead.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, cast

import msgspec
import psutil
from redis import Redis
from redis.exceptions import ResponseError

from tests.bench import engine
from tests.bench.harness import ROOT, Setup, end, page_source, redis_server
from tests.support.hostile_gateway import ATTACKS, HostileGateway
from worker.ordermesh.contract.findings import Capabilities, fingerprint, no, yes
from worker.ordermesh.contract.layers import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = "ordersync:{good}:runs"
PATIENCE = 20.0


@contextlib.contextmanager
def daemon(good: str, bad: str, redis_url: str, folder: Path) -> Iterator[psutil.Process]:
    """`ordersync run` with both accounts, ended by SIGTERM."""
    accounts = "".join(
        f"[accounts.{name}.api]\nbase_url = '{url}'\nclient_id = 'bench-client'\nclient_secret = 'bench-made-up'\n"
        for name, url in (("good", good), ("bad", bad))
    )
    (folder / "accounts.toml").write_text(accounts)
    (folder / "accounts.toml").chmod(0o600)
    settings = {
        "ORDERSYNC_ACCOUNTS_FILE": str(folder / "accounts.toml"),
        "ORDERSYNC_REDIS__URL": redis_url,
        "ORDERSYNC_POLL__INTERVALS": '{"orders": 1}',
        "ORDERSYNC_API__REQUESTS_PER_SECOND": "10",
        "ORDERSYNC_DATA_DIR": str(folder),
        "ORDERSYNC_LOG__LEVEL": "error",
    }
    process = subprocess.Popen(
        [engine.executable() or "ordersync", "run"],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("wb"),
        text=True,
    )
    try:
        yield psutil.Process(process.pid)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    finally:
        end(process)


def known_contract() -> bytes:
    """What the probe would have found at a good gateway, so that a bad one is read at once, and each second."""
    found = Capabilities(
        resource="orders",
        search="orders.search",
        at=time.time(),
        configured=fingerprint(BUILT_IN.profile),
        state="found",
        pages=yes("made up"),
        filtering=no("made up"),
        single=yes("made up"),
        single_alike=True,
    )
    return msgspec.json.encode(found)


def polls_of_good(client: Redis) -> list[float]:
    """How long each poll of `good` took, in seconds."""
    try:
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(RUNS))
    except ResponseError:  # busy with a script
        return []
    return [float(fields[b"duration_s"]) for _, fields in entries]


def measure(attack: str, seconds: float) -> str:
    """The figures beside one attack, as a line; "" stands for a second good gateway."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ordersync-bench-")))
        url = stack.enter_context(redis_server(aof=False))
        good = stack.enter_context(page_source(Setup(orders=100)))["url"]
        if attack:
            hostile = stack.enter_context(HostileGateway(ATTACKS[attack]))
            bad = hostile.url
        else:
            bad = stack.enter_context(page_source(Setup(orders=100)))["url"]
        client = stack.enter_context(Redis.from_url(url))
        client.hset("ordersync:{bad}:contract", "orders", known_contract())
        process = stack.enter_context(daemon(good, bad, url, folder))
        waited = time.monotonic()
        while not polls_of_good(client) and time.monotonic() - waited < PATIENCE:
            time.sleep(0.05)
        before, began, peak = len(polls_of_good(client)), time.monotonic(), 0
        while time.monotonic() - began < seconds:
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.02)
        took = polls_of_good(client)[before:]
        try:
            error = cast("bytes", client.hget("ordersync:{bad}:cursor:orders", "error") or b"")
        except ResponseError as busy:
            error = str(busy).encode()
        tracebacks = (folder / "log").read_text().count("Traceback")
    pace = len(took) * 60 / seconds
    middle, worst = (median(took), max(took)) if took else (0.0, 0.0)
    words = error.decode(errors="replace")[:70]
    return f"{pace:5.0f}  {middle * 1000:7.0f}  {worst * 1000:7.0f}  {peak / 1e6:6.0f}  {tracebacks}  {words}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", nargs="+", choices=tuple(ATTACKS), default=tuple(ATTACKS))
    given = parser.parse_args()
    print(f"{'bad gateway':24}  polls  median      max  memory  tracebacks, error of bad")
    print(f"{'':24}   /min      ms       ms      MB")
    for attack in ("", *given.only):
        print(f"{attack or '(a good one)':24}  {measure(attack, given.seconds)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
