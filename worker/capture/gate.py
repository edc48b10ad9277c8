"""Whether a read may go on, and how it has ended."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from worker.capture.state.run import Outcome
from worker.queue.backpressure import PressureReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.capture.state.pauses import Pause, Pauses
    from worker.capture.state.run import Run
    from worker.clock import Clock
    from worker.queue.backpressure import BackpressureGate, StreamGlance

PAUSE_CHECK_SECONDS = 0.25
"""Between two checks for a pause in a read that is under way."""


class StopCause(StrEnum):
    """Why a read ends before it has read everything."""

    STOPPED = "stopped"
    """The worker was asked to end."""
    OUT_OF_TIME = "out_of_time"
    """Its slice of time is over, or is needed by another; or the list moves as often as it is read."""
    UNPROVEN = "unproven"
    """It has come to the end of the list, which is read again: records that nobody knows may have been missed."""
    PAUSED = "paused"
    """A person has paused the source."""
    BACKPRESSURE = "backpressure"
    """Consumers, or Redis, have to catch up first."""


class Stop(msgspec.Struct, frozen=True):
    """A read must end here; the next one goes on. `why`: in words for a person; `report`: the backpressure."""

    cause: StopCause
    why: str = ""
    report: PressureReport | None = None

    @property
    def message(self) -> str:
        """What the read waits for, in words; "" where it waits for nothing."""
        return f"polling is paused: {self.report.cause}" if self.report else self.why


class ReadResult(msgspec.Struct, frozen=True):
    """How a read has ended: complete, unless it was stopped or something speaks against what it has read."""

    stop: Stop | None = None
    suspicion: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether everything was read, and is believed."""
        return self.stop is None and not self.suspicion


COMPLETE = ReadResult()
PARTIAL = ReadResult(Stop(StopCause.OUT_OF_TIME))
NOT_PROVEN = (
    "the list may have moved while it was read for the first time, so some of its records may not be known yet; full "
    "scans go on until one shows that none is missing"
)
UNPROVEN = ReadResult(Stop(StopCause.UNPROVEN, NOT_PROVEN))


def end_run(run: Run, result: ReadResult) -> None:
    """Set the outcome of a run.

    A read that is stopped, and waits for nothing, keeps the error of the read before it in the same run.
    """
    stop = result.stop
    if stop is None and result.suspicion:
        run.end(Outcome.SUSPICIOUS, "suspicious", result.suspicion)
    elif stop is None:
        run.end(Outcome.COMPLETE)
    elif stop.cause is StopCause.UNPROVEN:
        run.end(Outcome.PARTIAL, stop.cause.value, stop.why)
    elif stop.message:
        run.end(Outcome.PAUSED, stop.cause.value, stop.message)
    else:
        run.outcome = Outcome.STOPPED if stop.cause is StopCause.STOPPED else Outcome.PARTIAL


class ResourcePaused(Exception):
    """A person has paused the source, so it is not read."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        super().__init__(stop.message)


def paused(pause: Pause) -> Stop:
    """Return that a read must end here, since a person has paused the source."""
    return Stop(StopCause.PAUSED, pause.description)


class ReadGate:
    """Checks between two pages of one read whether it may go on.

    `stop()` is true when the worker is to end, `yields()` when the read is to give up its place.
    """

    def __init__(
        self,
        resource: str,
        backpressure: BackpressureGate,
        pauses: Pauses,
        stop: Callable[[], bool],
        clock: Clock,
        *,
        yields: Callable[[], bool] = lambda: False,
    ) -> None:
        self._resource, self._backpressure, self._pauses = resource, backpressure, pauses
        self._stop, self._yields, self._clock = stop, yields, clock
        self._check_pause_at = self._clock.monotonic() + PAUSE_CHECK_SECONDS

    async def check(self, published: int, deadline: float) -> Stop | None:
        """Return why the read must end here, or None.

        Redis is asked for a pause now and then, and for backpressure when a mark may have been reached.

        Args:
            published: Events that this read has published so far.
            deadline: When its time is over, by the monotonic clock.

        """
        if self._stop():
            return Stop(StopCause.STOPPED)
        now = self._clock.monotonic()
        if now >= deadline or self._yields():
            return Stop(StopCause.OUT_OF_TIME)
        if now >= self._check_pause_at:
            self._check_pause_at = now + PAUSE_CHECK_SECONDS
            if stop := await self.check_pause():
                return stop
        report = await self._backpressure.check(published)
        return Stop(StopCause.BACKPRESSURE, report=report) if report else None

    async def check_pause(self) -> Stop | None:
        """Return the pause of the source, if a person has paused it."""
        pause = await self._pauses.of(self._resource)
        return paused(pause) if pause else None

    async def check_backpressure(self, glance: StreamGlance, *, paused: bool) -> PressureReport:
        """Return the backpressure as the read begins; measured by the lower marks if polling is `paused`.

        `glance`: what the session has seen of the stream when it was opened.
        """
        return await self._backpressure.begin(glance, paused=paused)
