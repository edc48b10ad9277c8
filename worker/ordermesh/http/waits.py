"""What requests wait for: how long the budget keeps them, and which of them OrderMesh makes wait. No I/O."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.clock import Clock


class Wait(msgspec.Struct, frozen=True):
    """A request that was not answered, and is sent again. Times in seconds since 1970.

    `cause`: the last answer, or why there was none; `code`: that of its error. `since`: when the first attempt failed.
    `next_try`: when the next attempt begins; it lies in the past while that is under way.
    """

    cause: str
    since: float
    next_try: float
    code: str


class Waits(msgspec.Struct):
    """The requests of a run that are sent again, while that lasts."""

    _waits: dict[object, Wait] = msgspec.field(default_factory=dict)

    @property
    def first(self) -> Wait | None:
        """The one whose next attempt begins first; None if no request waits."""
        return min(self._waits.values(), key=lambda wait: wait.next_try, default=None)

    def note(self, request: object, wait: Wait) -> None:
        """Take note that a request waits."""
        self._waits[request] = wait

    def forget(self, request: object) -> None:
        """Take note that a request has ended, however it has."""
        self._waits.pop(request, None)


_of_run: ContextVar[Waits | None] = ContextVar("_of_run", default=None)


@contextmanager
def noted_in(waits: Waits) -> Iterator[None]:
    """Note in `waits` which requests of the block wait: those of the tasks that it starts as well."""
    token = _of_run.set(waits)
    try:
        yield
    finally:
        _of_run.reset(token)


def current() -> Waits | None:
    """Return where waits are noted here; None if nobody asked for them."""
    return _of_run.get()


class WaitTime(msgspec.Struct):
    """Adds up the seconds during which at least one of several tasks waits: never more than went by."""

    seconds: float = 0.0
    _waiting: int = 0
    _since: float = 0.0

    @contextmanager
    def counted(self, clock: Clock) -> Iterator[None]:
        """Count the time that the block takes."""
        if not self._waiting:
            self._since = clock.monotonic()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.seconds += clock.monotonic() - self._since
