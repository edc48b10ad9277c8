"""Traces: what leads from the tick to the commit, and lets others watch what the worker does.

Each run has a place in a W3C trace (https://www.w3.org/TR/trace-context/), also where nobody records traces: its ids
go into every line of the log, the run record and every event. Whoever wants to know more adds a watcher, which
is given every span when it has ended: metrics count them, OpenTelemetry exports them. Without a watcher a span
costs next to nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

Value: TypeAlias = "str | int | float | bool"


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a trace. `sampled`: somebody records it; `parent_id`: the span above, "" for the first."""

    trace_id: str
    span_id: str
    sampled: bool = False
    parent_id: str = ""

    @property
    def traceparent(self) -> str:
        """As W3C writes it."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"

    def child(self) -> Trace:
        """A place below this one."""
        return Trace(self.trace_id, secrets.token_hex(8), self.sampled, self.span_id)


@dataclass(slots=True)
class Span:
    """What was done, from `began` (nanoseconds since 1970) for `seconds`. `error`: how it failed, "" if it did not."""

    name: str
    trace: Trace
    began: int
    attributes: dict[str, Value] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""


Watcher: TypeAlias = "Callable[[Span], object]"

_here: ContextVar[Trace | None] = ContextVar("_here", default=None)
_watchers: list[Watcher] = []
_samplers: list[Callable[[str], bool]] = []


def begin(traceparent: str = "") -> Trace:
    """A place below the one that `traceparent` names; in a trace of its own where it names none."""
    result = _TRACEPARENT.fullmatch(traceparent)
    if result is not None:
        return Trace(result[1], result[2], bool(int(result[3], 16) & 1)).child()
    trace_id = secrets.token_hex(16)
    return Trace(trace_id, secrets.token_hex(8), any(sampler(trace_id) for sampler in _samplers))


def here() -> Trace | None:
    """The place at which this task is, if it is within a trace."""
    return _here.get()


@contextmanager
def watching(watcher: Watcher, sampler: Callable[[str], bool] | None = None) -> Iterator[None]:
    """While the block runs, `watcher` is given every span that ends; `sampler` says which new traces are recorded."""
    _watchers.append(watcher)
    if sampler is not None:
        _samplers.append(sampler)
    try:
        yield
    finally:
        _watchers.remove(watcher)
        if sampler is not None:
            _samplers.remove(sampler)


@contextmanager
def span(name: str, at: Trace | None = None, **attributes: Value) -> Iterator[Span]:
    """What the block does is a span: at the place `at`, or below where this task is.

    The block may add attributes. An error that leaves it is noted, and goes on its way.
    """
    above = _here.get()
    if at is None and not _watchers:
        yield _UNWATCHED
        return
    trace = at or (above.child() if above else begin())
    seen = Span(name, trace, time.time_ns(), attributes)
    began, token = time.perf_counter(), _here.set(trace)
    try:
        yield seen
    except BaseException as error:
        seen.error = f"{type(error).__name__}: {error}"
        raise
    finally:
        _here.reset(token)
        seen.seconds = time.perf_counter() - began
        _notify(seen)


def record(name: str, at: Trace, began: int, **attributes: Value) -> None:
    """A span that has ended now, for whoever learns afterwards that it was one. `began` as in `Span`."""
    _notify(Span(name, at, began, attributes, max(0, time.time_ns() - began) / 1e9))


def _notify(seen: Span) -> None:
    for watcher in _watchers:
        watcher(seen)


class _Nowhere(dict[str, Value]):
    """Attributes of a span that nobody watches."""

    def __setitem__(self, key: str, value: Value) -> None:
        del key, value


_UNWATCHED = Span("", Trace("", ""), 0, _Nowhere())
