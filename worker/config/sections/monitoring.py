"""Settings of logs, metrics and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from worker.config.sections.section import Section
from worker.config.values import HostName, OptionalHttpAddress, is_loopback


class LogSettings(Section):
    """How the worker writes its log, which goes to standard error."""

    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, json elsewhere"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is written"
    )


class MetricsSettings(Section):
    """Metrics for Prometheus, probes (`/healthz`, `/readyz`), and the page for people. Off without a port."""

    port: int | None = Field(
        None, ge=0, le=65535, description="port of /metrics, /healthz, /readyz and the page; off if not set"
    )
    host: HostName = Field("127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0: all")
    page: bool | None = Field(
        None,
        description="serve the page, which asks for no login; if not set, only where the host is an address of "
        "loopback",
    )
    names: tuple[HostName, ...] = Field(
        (),
        description='further names under which callers reach it, such as ["sync.example.com"]; addresses and names '
        "without a dot need not be listed",
    )

    @property
    def shows_page(self) -> bool:
        """Whether the page is served."""
        return is_loopback(self.host) if self.page is None else self.page


class TraceSettings(Section):
    """Traces to an OpenTelemetry collector. Off without an address."""

    endpoint: OptionalHttpAddress = Field(
        None, description="collector (OTLP over HTTP), such as http://127.0.0.1:4318; off if not set"
    )
    share: float = Field(1.0, ge=0, le=1, description="share of traces that is recorded, from 0 to 1")
