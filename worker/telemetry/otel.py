"""Spans as OpenTelemetry: an extra (`ordermesh-sync[otel]`), off unless a collector is set.

The spans keep their ids, so that what a collector shows, what the log says and what events carry lead to each other.
What else OpenTelemetry wants to know (headers, timeouts, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`) it takes from
its own environment variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, TraceIdRatioBased

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

    from worker.telemetry.tracing import Span, Trace

KINDS = {"tick": trace.SpanKind.PRODUCER, "poll": trace.SpanKind.CONSUMER, "request": trace.SpanKind.CLIENT}
NAMES = {"status": "http.response.status_code", "method": "http.request.method"}
"""Attributes that have a name of their own in OpenTelemetry; the others stand under `ordersync.`."""
FLUSH_MS = 2000


class Exporter:
    """Hands every span that is told to OpenTelemetry. `share`: of traces, from 0 to 1, that are recorded."""

    def __init__(self, exporter: SpanExporter, *, share: float = 1.0, version: str = "") -> None:
        self._ids = _GivenIds()
        self._share = TraceIdRatioBased(share)
        described = Resource.create({SERVICE_NAME: "ordersync", "service.version": version})
        # Whether a trace is recorded has been decided when it began: it stands in its flags.
        sampler = ParentBased(
            root=ALWAYS_ON, remote_parent_sampled=ALWAYS_ON, remote_parent_not_sampled=ALWAYS_OFF
        )
        self._provider = TracerProvider(
            resource=described, sampler=sampler, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("ordersync", version)

    def records(self, trace_id: str) -> bool:
        """Whether a new trace is recorded."""
        result = self._share.should_sample(None, int(trace_id, 16), "")
        return result.decision is Decision.RECORD_AND_SAMPLE

    def watch(self, told: Span) -> None:
        """Hand over a span."""
        if not told.trace.sampled:
            return
        self._ids.give(told.trace)
        span = self._tracer.start_span(
            told.name,
            context=_above(told.trace),
            kind=KINDS.get(told.name, trace.SpanKind.INTERNAL),
            start_time=told.began,
            attributes={NAMES.get(key, f"ordersync.{key}"): value for key, value in told.attributes.items()},
        )
        if told.error:
            span.set_status(trace.Status(trace.StatusCode.ERROR, told.error))
        span.end(told.began + int(told.seconds * 1e9))

    def flush(self) -> None:
        """Send what waits, for a moment at most, and end."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


class _GivenIds(IdGenerator):
    """The ids that a span has already. A span is begun right after they were given, and nothing comes between."""

    def __init__(self) -> None:
        self._trace_id = self._span_id = 0

    def give(self, at: Trace) -> None:
        """The ids of the next span."""
        self._trace_id, self._span_id = int(at.trace_id, 16), int(at.span_id, 16)

    def generate_span_id(self) -> int:
        """That of the span."""
        return self._span_id

    def generate_trace_id(self) -> int:
        """That of its trace."""
        return self._trace_id


def _above(at: Trace) -> Context:
    """The context of a span: the one above it, or none for the first of a trace."""
    if not at.parent_id:
        return trace.set_span_in_context(trace.INVALID_SPAN)
    above = trace.SpanContext(
        int(at.trace_id, 16), int(at.parent_id, 16), is_remote=True, trace_flags=trace.TraceFlags(1)
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(above))
