"""How `ordersync consume` slows down while nothing succeeds."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.waiting import PATIENCE
from worker.cli.consume.batches import FailureThrottle

pytestmark = pytest.mark.anyio


def delivery(number: int) -> Any:
    """As much of a delivery as is looked at."""
    return cast("Any", SimpleNamespace(resource="orders", entry_id=f"{number}-0"))


def pauses(pace: FailureThrottle, numbers: range) -> list[float]:
    """The pauses after each of these events has failed."""
    found = []
    for number in numbers:
        pace.failed(delivery(number))
        found.append(pace.pause)
    return found


async def test_bad_events_do_not_slow_down() -> None:
    """Some bad events are normal, and one that is tried again and again counts once."""
    pace = FailureThrottle(asyncio.Event(), 30.0)
    assert set(pauses(pace, range(9))) == {0.0}
    assert set(pauses(pace, range(9))) == {0.0}


async def test_when_everything_fails() -> None:
    """From the tenth different event on that fails without one that succeeds the pauses grow, up to the limit."""
    pace = FailureThrottle(asyncio.Event(), 30.0)
    assert pauses(pace, range(17))[8:] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    pace.succeeded()
    assert pace.pause == 0.0
    assert set(pauses(pace, range(9))) == {0.0}


async def test_a_run_with_an_end_ends() -> None:
    """It does not slow down."""
    ending = asyncio.Event()
    pace = FailureThrottle(ending, 30.0, give_up=ending.set)
    pauses(pace, range(9))
    assert (ending.is_set(), pace.everything_fails) == (False, False)
    pauses(pace, range(9, 10))
    assert (ending.is_set(), pace.everything_fails) == (True, True)


async def test_the_end_is_not_waited_for() -> None:
    """A pause ends when everything is to end."""
    ending = asyncio.Event()
    pace = FailureThrottle(ending, 3600.0)
    pauses(pace, range(30))
    ending.set()
    await asyncio.wait_for(pace.wait(), PATIENCE)
