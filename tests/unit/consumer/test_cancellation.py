"""What must not be cut short is not, however the caller is cancelled."""

import asyncio

import anyio
import pytest

from worker.cancellation import end, finish, plain_errors

pytestmark = pytest.mark.anyio


class Work:
    """Something that takes as long as the test wants."""

    def __init__(self) -> None:
        self.go, self.done = asyncio.Event(), False

    async def run(self) -> int:
        """Wait for the test; then it is done."""
        await self.go.wait()
        self.done = True
        return 7


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_result_and_error_come_through() -> None:
    """Left alone, it is as if one had awaited the work itself."""
    work = Work()
    work.go.set()
    assert await finish(work.run()) == 7

    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await finish(fail())


async def test_a_cancellation_that_was_swallowed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `asyncio.wait_for` of Python 3.11 does it: the task ends all the same, and says so."""
    monkeypatch.setattr("ordersync_consumer.cancellation.AGAIN_SECONDS", 0.01)
    swallowed = 0

    async def go_on() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    task = asyncio.create_task(go_on())
    await turns()
    await end(task)
    assert (task.cancelled(), swallowed) == (True, 3)
    await end(task)  # one that has ended is left alone


async def test_cancelled_twice() -> None:
    """Cancelled directly, and again and again, the caller waits for the work; then the cancellation follows."""
    work = Work()
    task = asyncio.create_task(finish(work.run()))
    for _ in range(3):
        await turns()
        task.cancel()
    await turns()
    assert not task.done()
    work.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.done


async def test_cancelled_by_a_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled scope, which cancels again on every turn of the loop, does not get past it either.

    Nor does it keep the processor busy meanwhile: one wait is enough.
    """
    work, ended, waits, wait = Work(), list[bool](), list[object](), asyncio.wait

    async def counted(tasks: list[asyncio.Task[int]]) -> object:
        waits.append(tasks)
        return await wait(tasks)

    monkeypatch.setattr(asyncio, "wait", counted)

    async def caller() -> None:
        try:
            await finish(work.run())
        finally:
            ended.append(work.done)

    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await turns()
        waits.clear()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await turns(20)
            assert ended == []
            work.go.set()
    assert ended == [True]
    assert len(waits) == 1


async def test_failure_after_the_cancellation_is_not_lost_noisily() -> None:
    """Work that fails after its caller was cancelled is over; the cancellation is what comes out."""
    work = Work()

    async def fail() -> None:
        await work.run()
        raise KeyError("x")

    task = asyncio.create_task(finish(fail()))
    await turns()
    task.cancel()
    await turns()
    work.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_first_error_itself() -> None:
    """Out of a task group comes the error, not a group of one, however deep it stands."""

    async def fail() -> None:
        raise KeyError("x")

    async def fail_in_groups() -> None:
        with plain_errors():
            async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
                outer.start_soon(fail)
                inner.start_soon(fail)

    with pytest.raises(KeyError):
        await fail_in_groups()
