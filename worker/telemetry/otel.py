"""Export spans by OpenTelemetry: an extra (`ordermesh-sync[otel]`), off unless a collector is set.

The spans keep their ids, so the collector, the log and the events refer to the same spans. Other options of
OpenTelemetry (headers, timeouts, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`) come from its own environment
variables.
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
"""Attributes with a standard name in OpenTelemetry; the others get the prefix `ordersync.`."""
FLUSH_MS = 2000


class Exporter:
    """Passes spans to OpenTelemetry. `share` is the share of traces, from 0 to 1, that are recorded."""

    def __init__(self, exporter: SpanExporter, *, share: float = 1.0, version: str = "") -> None:
        self._ids = _GivenIds()
        self._share = TraceIdRatioBased(share)
        described = Resource.create({SERVICE_NAME: "ordersync", "service.version": version})
        # Whether a trace is recorded was decided when it began; its flags say so.
        sampler = ParentBased(
            root=ALWAYS_ON, remote_parent_sampled=ALWAYS_ON, remote_parent_not_sampled=ALWAYS_OFF
        )
        self._provider = TracerProvider(
            resource=described, sampler=sampler, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("ordersync", version)

    def records(self, trace_id: str) -> bool:
        """True if a new trace is to be recorded."""
        result = self._share.should_sample(None, int(trace_id, 16), "")
        return result.decision is Decision.RECORD_AND_SAMPLE

    def watch(self, ended: Span) -> None:
        """Export a span that has ended."""
        if not ended.trace.sampled:
            return
        self._ids.give(ended.trace)
        span = self._tracer.start_span(
            ended.name,
            context=_above(ended.trace),
            kind=KINDS.get(ended.name, trace.SpanKind.INTERNAL),
            start_time=ended.began,
            attributes={NAMES.get(key, f"ordersync.{key}"): value for key, value in ended.attributes.items()},
        )
        if ended.error:
            span.set_status(trace.Status(trace.StatusCode.ERROR, ended.error))
        span.end(ended.began + int(ended.seconds * 1e9))

    def flush(self) -> None:
        """Send the spans that wait, for `FLUSH_MS` at most, and shut down."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


class _GivenIds(IdGenerator):
    """Generates the ids that a span already has. The span is started right after its ids were set."""

    def __init__(self) -> None:
        self._trace_id = self._span_id = 0

    def give(self, at: Trace) -> None:
        """Set the ids of the next span."""
        self._trace_id, self._span_id = int(at.trace_id, 16), int(at.span_id, 16)

    def generate_span_id(self) -> int:
        """Return the id of the span."""
        return self._span_id

    def generate_trace_id(self) -> int:
        """Return the id of its trace."""
        return self._trace_id


def _above(at: Trace) -> Context:
    """Return the context of a span: its parent, or none for the first span of a trace."""
    if not at.parent_id:
        return trace.set_span_in_context(trace.INVALID_SPAN)
    above = trace.SpanContext(
        int(at.trace_id, 16), int(at.parent_id, 16), is_remote=True, trace_flags=trace.TraceFlags(1)
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(above))
