"""The sections of the settings, with their rules and defaults.

The values are read from their sources in `settings.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from worker.clock import parse_time
from worker.keys import PREFIX, KeySpace

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERVALS = {
    "orders": 15.0,
    "order_items": 60.0,
    "shipments": 15.0,
    "notes": 60.0,
    "categories": 600.0,
    "products": 600.0,
    "variants": 600.0,
    "merchant_catalogs": 600.0,
    "order_audit": 15.0,
    "order_item_audit": 15.0,
    "shipment_audit": 15.0,
    "package_audit": 15.0,
    "message_audit": 15.0,
    "note_audit": 15.0,
    "category_audit": 60.0,
    "product_audit": 60.0,
    "variant_audit": 60.0,
    "merchant_catalog_audit": 60.0,
}
"""Default seconds between two polls of each resource, and of each kind of audit log."""
RESOURCES = tuple(INTERVALS)
"""The resources and audit logs that this version can read."""
PRESETS = {
    "orders": {"orders": INTERVALS["orders"]},
    "records": {name: seconds for name, seconds in INTERVALS.items() if not name.endswith("_audit")},
    "all": INTERVALS,
}
"""The sets of resources that a preset polls: orders, all records, or all records and their audit logs."""
WITH_STATUS = ("orders", "order_items", "shipments")
"""The resources whose records have a status."""
SANDBOX_ACCOUNT = "sandbox"
"""The account of `ordersync run --sandbox`. Each run starts with new orders and drops the state of older ones."""
_GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_OWN_HEADERS = frozenset({
    "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "expect", "host",
    "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def without_line_end(value: Any) -> Any:
    """Return a text without the line break that `echo` and editors put at its end; other values unchanged."""
    return value.rstrip("\r\n") if isinstance(value, str) else value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_good_port(parts):
        raise ValueError("must be an address like https://api.ordermesh.io")
    _host(parts.hostname)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not contain a user, password, query or fragment")
    return value.rstrip("/")


def _optional_url(value: str | None) -> str | None:
    return _http_url(value) if value else None


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _host(value: str) -> str:
    try:
        value.encode("idna")
    except UnicodeError:
        raise ValueError(f"{value!r} is not a host name") from None
    return value


def _redis_url(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in {"redis", "rediss", "unix"} or not _has_good_port(parts):
        raise ValueError("must be an address like redis://host:6379/0, rediss://... or unix:///path")
    if parts.scheme != "unix":
        _host(parts.hostname or "")
        # redis-py uses database 0 if the path is not a number.
        if not re.fullmatch(r"(/[0-9]*)?", parts.path):
            raise ValueError(f"{parts.path[1:]!r} is not a database number, as in redis://host:6379/0")
    return value


def account_name(value: str) -> str:
    """Return the name if it is a valid name of an account.

    Raises:
        ValueError: The name is invalid; the message says why.

    """
    if not _ACCOUNT_NAME.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits, dots, dashes or underscores")
    if value == SANDBOX_ACCOUNT:
        raise ValueError(
            f"{value!r} is the account of `ordersync run --sandbox`, which deletes its data; choose another name"
        )
    return value


def _resource(value: str) -> str:
    if value not in RESOURCES:
        raise ValueError(f"Unknown resource {value!r}. Known resources: {', '.join(RESOURCES)}")
    return value


_Resource = Annotated[str, AfterValidator(_resource)]


def _group_name(value: str) -> str:
    if not _GROUP_NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a group name: use 1 to 64 letters, digits, dots, colons, dashes or underscores"
        )
    return value


_GroupName = Annotated[str, AfterValidator(_group_name)]


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a prefix: use 1 to 64 letters, digits, dots, dashes, underscores and colons, "
            "such as shop:ordersync:"
        )
    return value


def _as_text(value: Any) -> Any:
    """Return a date of a TOML file as it is written."""
    return value.isoformat() if isinstance(value, date) else value


def _moment(value: str | None) -> str | None:
    if value is not None and parse_time(value) is None:
        raise ValueError(f"{value!r} is neither a date (2026-03-01) nor a time (2026-03-01T08:00:00Z)")
    return value


def _field_path(value: str) -> str:
    names = value.removeprefix("**.").split(".")
    if not all(names) or any(mark in value.removeprefix("**.") for mark in "*[]"):
        raise ValueError(
            f"{value!r} is not a field path. Join names with dots, as in items.images (lists need no index), or "
            "write **.email for a name at any depth"
        )
    if value.startswith("**.") and len(names) > 1:
        raise ValueError(f"{value!r}: write exactly one name after **., such as **.email")
    return value


_FieldPath = Annotated[str, AfterValidator(_field_path)]


class Section(BaseModel):
    """A group of settings. Unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _without_line_end(cls, value: Any) -> Any:
        return without_line_end(value)


def _home(value: Path | None) -> Path | None:
    return value.expanduser() if value else None


_File = Annotated[Path | None, AfterValidator(_home)]


def _headers(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, secret in value.items():
        text = secret.get_secret_value().strip()
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a header")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"the worker sets the header {name} itself")
        if not text or not text.isascii() or not text.isprintable():
            raise ValueError(f"the value of {name} must be printable ASCII characters")
    return {name: SecretStr(secret.get_secret_value().strip()) for name, secret in value.items()}


class ApiSettings(Section):
    """How to reach OrderMesh, and how many requests to send."""

    base_url: Annotated[str, AfterValidator(_http_url)] = Field(
        "https://api.ordermesh.io", description="address of the gateway"
    )
    moved_from: Annotated[str | None, AfterValidator(_optional_url)] = Field(
        None,
        description="earlier address of the same OrderMesh, after a move: its events and state are continued",
    )
    client_id: str | None = Field(None, description="production login: id of the service client")
    client_secret: SecretStr | None = Field(None, description="production login: its secret")
    username: str | None = Field(None, description="development login: user")
    password: SecretStr | None = Field(None, description="development login: password")
    requests_per_second: float = Field(
        10, gt=0, le=1_000_000, description="request budget of all workers together"
    )
    max_concurrency: int = Field(4, ge=1, le=64, description="concurrent requests of all workers together")
    page_size: int = Field(100, ge=1, le=1000, description="records requested per page")
    timeout: float = Field(30, gt=0, le=600, description="seconds without a byte until a request fails")
    attempts: int = Field(5, ge=1, le=20, description="attempts for one request before the poll fails")
    max_response_bytes: int = Field(
        33_554_432,
        ge=65_536,
        le=1_073_741_824,
        description="most bytes of a response, compressed or not; a longer one is not read",
    )
    max_record_bytes: int = Field(
        1_048_576,
        ge=1_024,
        le=268_435_456,
        description="most bytes of one record; a longer one is stored as a dead letter without its content",
    )

    headers: Annotated[dict[str, SecretStr], AfterValidator(_headers)] = Field(
        default={}, description="headers of every request, such as the subscription key of an API management"
    )
    ca_file: _File = Field(
        None, description="certificates (PEM) of authorities that are trusted beside those of the system"
    )
    client_cert_file: _File = Field(
        None, description="certificate (PEM) that the worker shows to the gateway, with its chain"
    )
    client_key_file: _File = Field(
        None, description="key (PEM, not encrypted) of that certificate; if not set, it is in the same file"
    )

    @model_validator(mode="after")
    def _has_certificate(self) -> Self:
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("client_key_file needs client_cert_file")
        return self

    @property
    def has_login(self) -> bool:
        """True if one of the two logins is complete."""
        return bool((self.client_id and self.client_secret) or (self.username and self.password))


class RedisSettings(Section):
    """Where events and state are stored, and where arq has its queue."""

    url: Annotated[SecretStr | None, AfterValidator(_redis_url)] = Field(
        None, description="server for events and state; if not set, an embedded Valkey is started"
    )
    queue_url: Annotated[SecretStr | None, AfterValidator(_redis_url)] = Field(
        None, description="server for the queue of arq; if not set, the same server"
    )
    ca_file: _File = Field(
        None, description="certificates (PEM) of authorities that are trusted beside those of the system"
    )
    client_cert_file: _File = Field(
        None, description="certificate (PEM) that the worker shows to both servers, with its chain"
    )
    client_key_file: _File = Field(
        None, description="key (PEM, not encrypted) of that certificate; if not set, it is in the same file"
    )

    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        PREFIX, description="begin of the name of every key; the keys of arq's jobs begin with arq:"
    )

    @property
    def keys(self) -> KeySpace:
        """The keys that begin with the prefix."""
        return KeySpace(self.prefix)

    @property
    def address(self) -> str | None:
        """The address of the server for events and state, with the files for TLS; None for the embedded one."""
        return self._with_files(self.url)

    @property
    def queue_address(self) -> str | None:
        """The address of the server of the queue, with the files for TLS; None if it is the same server."""
        return self._with_files(self.queue_url)

    def _with_files(self, url: SecretStr | None) -> str | None:
        if url is None:
            return None
        address = url.get_secret_value()
        if not address.startswith("rediss:"):
            return address
        files = {
            "ssl_ca_certs": self.ca_file,
            "ssl_certfile": self.client_cert_file,
            "ssl_keyfile": self.client_key_file or self.client_cert_file,
        }
        given = parse_qs(urlsplit(address).query)
        options = urlencode({name: str(file) for name, file in files.items() if file and name not in given})
        joint = "&" if given else "?"
        return f"{address.rstrip('?')}{joint}{options}" if options else address

    @model_validator(mode="after")
    def _use_tls(self) -> Self:
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("client_key_file needs client_cert_file")
        plain = [
            url
            for url in (self.url, self.queue_url)
            if url and not url.get_secret_value().startswith("rediss:")
        ]
        files = [name for name in ("ca_file", "client_cert_file") if getattr(self, name)]
        if files and (plain or self.url is None):
            raise ValueError(f"{files[0]} needs addresses that begin with rediss://")
        return self


class PollSettings(Section):
    """What is read, and how often."""

    preset: Literal["orders", "records", "all"] = Field(
        "orders", description="what is polled at the default intervals, if no intervals are set"
    )
    intervals: dict[_Resource, Annotated[float, Field(ge=1, le=86400)]] = Field(
        default={},
        description="resources to poll, with the seconds between two polls, 1 to 86400; replaces the preset",
    )
    ignore_fields: dict[_Resource, tuple[str, ...]] = Field(
        default={}, description="top-level fields whose change alone is not an event"
    )
    complete_every: float = Field(
        3600,
        ge=1,
        le=86400,
        description="seconds between two full scans, where polls are incremental reads",
    )
    since: Annotated[str | None, BeforeValidator(_as_text), AfterValidator(_moment)] = Field(
        None,
        description="date or time (2026-03-01, 2026-03-01T08:00:00Z): records that a first full scan finds are not "
        "published if they were modified before it; no limit if not set",
    )
    snapshot: Literal["publish", "silent"] = Field(
        "publish",
        description="silent: records are not published that were last modified before the first full scan began",
    )
    confirm_deletes: float = Field(
        300,
        ge=0,
        le=86400,
        description="seconds between the two answers that a record does not exist, after which it is published as "
        "deleted",
    )

    @property
    def since_ms(self) -> int:
        """The start date in milliseconds since 1970; 0 for none."""
        return max(0, parse_time(self.since) or 0)

    @property
    def chosen(self) -> dict[str, float]:
        """Seconds between two polls, by resource; resources that are not polled are missing."""
        return dict(self.intervals or PRESETS[self.preset])


class ReconcileSettings(Section):
    """How published events are compared with the audit logs of OrderMesh."""

    every: float = Field(
        3600, ge=0, le=2_592_000, description="seconds between two comparisons with the audit logs; 0: never"
    )
    share: float = Field(
        0.1, gt=0, le=1, description="share of the request budget that the comparison may use, such as 0.1"
    )
    lag: float = Field(
        120,
        ge=0,
        le=86_400,
        description="seconds after a change until it counts as missed if it is not published",
    )


class InterestSettings(Section):
    """Which records are published: the scope. Which resources are read is set by the section Poll."""

    merchants: tuple[str, ...] = Field(
        default=(), description="ids of merchants whose records are published; all if not set"
    )
    statuses: dict[_Resource, tuple[str | int, ...]] = Field(
        default={}, description="statuses of each resource whose records are published; all if not set"
    )
    final_statuses: dict[_Resource, tuple[str | int, ...]] = Field(
        default={"orders": ("Fulfilled", "Cancelled")},
        description="statuses whose records only full scans read, with the strategy open",
    )

    @model_validator(mode="after")
    def _have_statuses(self) -> Self:
        for resource in {**self.statuses, **self.final_statuses}:
            if resource not in WITH_STATUS:
                raise ValueError(
                    f"{resource} have no status. Resources with a status: {', '.join(WITH_STATUS)}"
                )
        return self


class PrivacySettings(Section):
    """Which fields of the records are published."""

    policy: Literal["keep", "minimal"] = Field(
        "keep",
        description="minimal: without names, addresses, phone numbers, mail, payment details and free text",
    )
    fields: dict[_Resource, dict[_FieldPath, Literal["keep", "drop", "mask", "hash"]]] = Field(
        default={}, description="keep, drop, mask or hash for fields of each resource; overrides the policy"
    )
    key: SecretStr | None = Field(None, description="key of the hashes, 16 characters or more")

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        key = self.key.get_secret_value() if self.key else ""
        if key and len(key) < 16:
            raise ValueError("ORDERSYNC_PRIVACY__KEY is too short. Use 16 characters or more")
        for resource, rules in self.fields.items():
            for path, action in rules.items():
                if action == "hash" and not key:
                    raise ValueError(
                        f"{path} of {resource} cannot be hashed without a key. Set ORDERSYNC_PRIVACY__KEY to a "
                        "secret of 16 characters or more, and keep it: another key changes every hash"
                    )
                if action != "keep" and path.lower() in {"id", "**.id"}:
                    raise ValueError(
                        f"{path} of {resource} identifies the record in `subject` of every event, so it must be kept"
                    )
        return self


class EventSettings(Section):
    """Consumer groups, and optional fields of events."""

    groups: dict[_GroupName, tuple[_Resource, ...]] = Field(
        default={}, description="consumer groups that the worker creates, and the resources that each reads"
    )
    compress_above: int | None = Field(
        None,
        ge=1,
        description="size in bytes above which the record of an event is compressed; never if not set",
    )
    previous: bool = Field(
        default=False,
        description="whether updates have the old values of changed fields; stores every record",
    )
    traceparent: bool = Field(
        default=False, description="whether events have the run that published them, as a W3C traceparent"
    )


class KeptSettings(Section):
    """What is kept of the stream of one resource; 0 is no limit."""

    max_age: float | None = Field(None, ge=0)
    max_entries: int | None = Field(None, ge=0)
    max_bytes: int | None = Field(None, ge=0)


class RetentionSettings(Section):
    """How long events are kept. An event that a group still needs is kept longer, whatever the limits are."""

    max_age: float = Field(604_800, ge=0, description="seconds that events are kept; 0: no limit")
    max_entries: int = Field(0, ge=0, description="events kept per resource; 0: no limit")
    max_bytes: int = Field(0, ge=0, description="bytes of events kept per resource; 0: no limit")
    resources: dict[_Resource, KeptSettings] = Field(default={}, description="limits of single resources")
    every: float = Field(60, ge=1, le=86400, description="seconds between two passes")
    idle_after: float = Field(
        604_800, ge=1, description="seconds after which a group that does not read is reported as idle"
    )

    def of(self, resource: str) -> KeptSettings:
        """Return the limits of one resource."""
        own = self.resources.get(resource, KeptSettings())
        shared = {name: getattr(self, name) for name in KeptSettings.model_fields}
        return KeptSettings(**shared | own.model_dump(exclude_none=True))


class BackpressureSettings(Section):
    """When polling pauses until consumers or Redis have caught up. 0 disables a limit."""

    entries: int = Field(500_000, ge=0, description="unread events of a group at which polling pauses")
    bytes: int = Field(1 << 30, ge=0, description="unread bytes of a group at which polling pauses")
    memory: float = Field(
        0.9, ge=0, le=1, description="share of the maxmemory of Redis at which polling pauses"
    )
    resume: float = Field(
        0.9, gt=0, le=1, description="share of a limit below which polling continues, such as 0.9"
    )


class ResyncSettings(Section):
    """Resyncs."""

    share: float = Field(
        0.5, gt=0, le=1, description="largest share of the request budget that resyncs use, such as 0.5"
    )


class LogSettings(Section):
    """How the worker writes its log, which goes to standard error."""

    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, json elsewhere"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is written"
    )


class MetricsSettings(Section):
    """Metrics for Prometheus, and probes: `/metrics`, `/healthz`, `/readyz`. Off without a port."""

    port: int | None = Field(
        None, ge=0, le=65535, description="port of /metrics, /healthz and /readyz; off if not set"
    )
    host: Annotated[str, AfterValidator(_host)] = Field(
        "127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0: all"
    )


class TraceSettings(Section):
    """Traces to an OpenTelemetry collector. Off without an address."""

    endpoint: Annotated[str | None, AfterValidator(_optional_url)] = Field(
        None, description="collector (OTLP over HTTP), such as http://127.0.0.1:4318; off if not set"
    )
    share: float = Field(1.0, ge=0, le=1, description="share of traces that is recorded, from 0 to 1")


@dataclass(frozen=True, slots=True)
class Account:
    """One set of OrderMesh credentials, and what is read with it."""

    name: str
    api: ApiSettings
    intervals: Mapping[str, float]
    ignore_fields: Mapping[str, tuple[str, ...]]
    complete_every: float = 3600.0
    confirm_deletes: float = 300.0
    since: int = 0
    """Milliseconds since 1970; 0: no limit."""
    snapshot: str = "publish"
    keys: KeySpace = field(default_factory=KeySpace)
    reconcile: ReconcileSettings = field(default_factory=ReconcileSettings)
    contract_file: Path | None = None
    interest: InterestSettings = field(default_factory=InterestSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    events: EventSettings = field(default_factory=EventSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    backpressure: BackpressureSettings = field(default_factory=BackpressureSettings)
    resync: ResyncSettings = field(default_factory=ResyncSettings)
