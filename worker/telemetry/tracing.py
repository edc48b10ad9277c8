"""Traces: spans from the tick to the commit, which watchers such as metrics and OpenTelemetry receive.

Each run has a span in a W3C trace (https://www.w3.org/TR/trace-context/), even if no trace is recorded: its ids are in
every log line, the run record and every event. A watcher gets every span when it has ended: metrics count the spans,
OpenTelemetry exports them. Without a watcher a span costs next to nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ordersync_consumer.redaction import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

Value: TypeAlias = "str | int | float | bool"


@dataclass(frozen=True, slots=True)
class Trace:
    """The position of a span in a trace. `sampled`: the trace is recorded. `parent_id`: "" for the first span."""

    trace_id: str
    span_id: str
    sampled: bool = False
    parent_id: str = ""

    @property
    def traceparent(self) -> str:
        """The traceparent header of this span."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"

    def child(self) -> Trace:
        """Return a new span below this one."""
        return Trace(self.trace_id, secrets.token_hex(8), self.sampled, self.span_id)


@dataclass(slots=True)
class Span:
    """An operation that began at `began` (nanoseconds since 1970). `error` is "" if it succeeded."""

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
    """Return a span below the one of `traceparent`; the first span of a new trace if that is empty or invalid."""
    result = _TRACEPARENT.fullmatch(traceparent)
    if result is not None:
        return Trace(result[1], result[2], bool(int(result[3], 16) & 1)).child()
    trace_id = secrets.token_hex(16)
    return Trace(trace_id, secrets.token_hex(8), any(sampler(trace_id) for sampler in _samplers))


def here() -> Trace | None:
    """Return the span of this task, None outside of any."""
    return _here.get()


@contextmanager
def watching(watcher: Watcher, sampler: Callable[[str], bool] | None = None) -> Iterator[None]:
    """Call `watcher` with every span that ends in the block; `sampler` decides which new traces are recorded."""
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
    """Make the block a span: `at`, or a new one below that of this task.

    The block may add attributes. The span records an error that leaves the block.
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
        seen.error = words(f"{type(error).__name__}: {error}")
        raise
    finally:
        _here.reset(token)
        seen.seconds = time.perf_counter() - began
        _notify(seen)


def record(name: str, at: Trace, began: int, **attributes: Value) -> None:
    """Record a span that began at `began` and ends now, without a block."""
    _notify(Span(name, at, began, attributes, max(0, time.time_ns() - began) / 1e9))


def _notify(seen: Span) -> None:
    for watcher in _watchers:
        watcher(seen)


class _Discarded(dict[str, Value]):
    """The attributes of a span without a watcher: they are discarded."""

    def __setitem__(self, key: str, value: Value) -> None:
        del key, value


_UNWATCHED = Span("", Trace("", ""), 0, _Discarded())
