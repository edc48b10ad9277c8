"""Daemons that are killed (SIGKILL) or frozen (SIGSTOP) at work: nothing missed, nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from tests.support.gateway import Gateway, Judge
from tests.support.programs import Program, ordersync_process
from tests.support.waiting import eventually
from worker.capture.state.lease import LEASE_SECONDS

pytestmark = pytest.mark.anyio

LEASE = "ordersync:{default}:lease:orders"
RECOVERY = 60.0
"""Seconds until a successor must have made up for a killed worker: the lease, the mark of the job, the read."""


class Assassin:
    """Kills a program from within a request of it: the `number`th one whose path ends with `path`."""

    def __init__(self, program: Program, path: str, number: int) -> None:
        self._pid, self._path, self._left = program.process.pid, path, number

    def __call__(self, path: str) -> None:
        """Look at a request."""
        if path.endswith(self._path):
            self._left -= 1
            if self._left == 0:
                os.kill(self._pid, signal.SIGKILL)

    @property
    def done(self) -> bool:
        """Whether it has killed."""
        return self._left <= 0


def work(gateway: Gateway) -> None:
    """Let orders change, come and go."""
    history = gateway.history
    ids = history.ids("orders")
    history.change("orders", ids[5:300:37])
    history.create("orders", 2)
    history.delete("orders", ids[-9:-8])


Prelude = Callable[[Gateway, dict[str, str], Path], None]


def nothing(_gateway: Gateway, _settings: dict[str, str], _folder: Path) -> None:
    """A quiet poll."""


def resync(_gateway: Gateway, settings: dict[str, str], folder: Path) -> None:
    """Ask for a forced resync of everything."""
    done = ordersync_process("resync", "orders", "--all", cwd=folder, **settings)
    assert done.returncode == 0, done.stderr


PHASES: dict[str, tuple[Prelude, str, int]] = {
    "quiet poll": (nothing, "/orders", 3),
    "resync": (resync, "/orders", 9),
    "reconcile": (nothing, "/auditLogs", 3),
}


@pytest.mark.slow
async def test_killed_in_probe_and_first_scan(redis_url: str, tmp_path: Path) -> None:
    """Two lives end in the probe and in the first scan; the next one finds everything `snapshot` that was there."""
    with Gateway(orders=600) as gateway, Judge(gateway, redis_url) as judge:
        settings = gateway.settings(redis_url, tmp_path, api__page_size="20", api__max_concurrency="1")
        for number in (4, 40):
            with Program(tmp_path, **settings) as program:
                gateway.watch = assassin = Assassin(program, "/orders", number)
                await program.ended()
                assert assassin.done
                gateway.history.create("orders")
        gateway.watch = None
        with Program(tmp_path, **settings):
            await judge.recovered(RECOVERY)
            work(gateway)
            await judge.recovered(RECOVERY)
        assert judge.verdict().counts == {}


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
async def test_killed_at_work(redis_url: str, tmp_path: Path, phase: str) -> None:
    """Orders change, come and go before and after the kill."""
    prelude, path, number = PHASES[phase]
    with Gateway(orders=300) as gateway, Judge(gateway, redis_url) as judge:
        more = {"reconcile__every": "1", "reconcile__lag": "0"} if phase == "reconcile" else {}
        settings = gateway.settings(redis_url, tmp_path, api__page_size="20", **more)
        with Program(tmp_path, **settings) as program:
            await judge.recovered()
            work(gateway)
            prelude(gateway, settings, tmp_path)
            gateway.watch = Assassin(program, path, number)
            await program.ended()
        gateway.watch = None
        work(gateway)
        with Program(tmp_path, **settings):
            await judge.recovered(RECOVERY)
        assert judge.verdict().counts == {}


def seconds_of(client: Any) -> float:
    """The time of Redis, in seconds since 1970."""
    seconds, micro = cast("tuple[int, int]", client.time())
    return seconds + micro / 1e6


def reader(client: Any, programs: list[Program]) -> Program | None:
    """The one of several daemons that has the lease of the orders at the moment; None if none has."""
    owner = (client.hget(LEASE, "owner") or b"").decode()
    return next((each for each in programs if f"-{each.process.pid}-" in owner), None)


def stopped_reader(client: Any, programs: list[Program]) -> Program | None:
    """That one, frozen while it has the lease; None if none has."""
    found = reader(client, programs)
    if found is not None:
        os.kill(found.process.pid, signal.SIGSTOP)
        if reader(client, [found]) is None:  # it has just released the lease
            os.kill(found.process.pid, signal.SIGCONT)
            return None
    return found


async def test_one_of_two_is_killed(redis_url: str, tmp_path: Path) -> None:
    """The one that reads: the other one goes on when the lease of the dead one has expired, at once after that.

    Redis says when: the lease of the dead one ends at most `LEASE_SECONDS` after its death, and a fencing number is not
    below the time at which it was given.
    """
    with (
        Gateway(orders=300) as gateway,
        Judge(gateway, redis_url) as judge,
        redis.Redis.from_url(redis_url) as client,
        ExitStack() as stack,
    ):
        settings = gateway.settings(redis_url, tmp_path, api__page_size="20", poll__complete_every="1")
        programs = [stack.enter_context(Program(tmp_path, **settings)) for _ in range(2)]
        await judge.recovered()
        await eventually(lambda: any(each.logs("poll_done") for each in programs))
        slow = gateway.faults.add("slow", path="/orders", seconds=0.5)
        work(gateway)
        victim = await eventually(lambda: stopped_reader(client, programs))
        victim.process.kill()
        victim.process.wait()
        killed_at = seconds_of(client)
        fence, ends = (int(value) for value in client.hmget(LEASE, "fence", "until"))
        assert ends / 1000 - killed_at <= LEASE_SECONDS
        slow.end()
        (other,) = [each for each in programs if each is not victim]
        assert await eventually(lambda: reader(client, [other]))
        assert int(client.hget(LEASE, "fence")) >= max(fence + 1, ends)
        await judge.recovered(RECOVERY)
        work(gateway)
        await judge.recovered(RECOVERY)
        assert judge.verdict().counts == {}


async def frozen(redis_url: str, folder: Path, daemons: int, seconds: float) -> float:
    """Freeze one of so many daemons within a read, for so long; the seconds until everything was published again."""
    with Gateway(orders=300) as gateway, Judge(gateway, redis_url) as judge, ExitStack() as stack:
        settings = gateway.settings(redis_url, folder, api__page_size="20")
        programs = [stack.enter_context(Program(folder, **settings)) for _ in range(daemons)]
        await judge.recovered()
        victim = programs[0].process.pid
        asked = gateway.count("/orders")
        await eventually(lambda: gateway.count("/orders") > asked + 3)
        os.kill(victim, signal.SIGSTOP)
        try:
            work(gateway)
            await asyncio.sleep(seconds)
        finally:
            os.kill(victim, signal.SIGCONT)
        taken = await judge.recovered(RECOVERY)
        work(gateway)
        taken = max(taken, await judge.recovered(RECOVERY))
        assert judge.verdict().counts == {}
        assert all(each.process.poll() is None for each in programs)
        return taken


@pytest.mark.parametrize(("daemons", "seconds"), [(2, 10)])
async def test_frozen(redis_url: str, tmp_path: Path, daemons: int, seconds: float) -> None:
    """One that is frozen for longer than its lease commits nothing when it awakes."""
    await frozen(redis_url, tmp_path, daemons, seconds)


@pytest.mark.long
@pytest.mark.parametrize("daemons", [1, 2])
@pytest.mark.parametrize("seconds", [5, 20, 60])
async def test_frozen_for_long(redis_url: str, tmp_path: Path, daemons: int, seconds: float) -> None:
    await frozen(redis_url, tmp_path, daemons, seconds)
