"""Settings of events: what they contain, who reads them, and how long they are kept."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from worker.config.sections.section import Section
from worker.config.values import (
    FieldPath,
    FieldRule,
    GroupName,
    PrivacyKey,
    ResourceName,
    WebhookSecrets,
    keys_of,
)

_IGNORED_IN_NAMES = str.maketrans("", "", "_-")


class PrivacySettings(Section):
    """Which fields of the records are published."""

    policy: Literal["keep", "minimal"] = Field(
        "keep",
        description="minimal: only the known fields without names, addresses, contacts, payments, links and "
        "free text",
    )
    fields: dict[ResourceName, dict[FieldPath, FieldRule]] = Field(
        default={},
        description="keep, drop, mask or hash for fields of each resource, hash:NAME for fields whose equal values "
        "have equal hashes; overrides the policy",
    )
    key: PrivacyKey = Field(
        None,
        description="key of the hashes: 32 random characters or more, as `openssl rand -base64 32` prints",
    )

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        has_key = bool(self.key and self.key.get_secret_value())
        for resource, rules in self.fields.items():
            for path, action in rules.items():
                if action.startswith("hash") and not has_key:
                    raise ValueError(
                        f"{path} of {resource} cannot be hashed without a key. Set ORDERSYNC_PRIVACY__KEY to what "
                        "`openssl rand -base64 32` prints, and keep it: another key changes every hash"
                    )
                if action != "keep" and path.lower().translate(_IGNORED_IN_NAMES) in {"id", "**.id"}:
                    raise ValueError(
                        f"{path} of {resource} identifies the record in `subject` of every event, so it must be kept"
                    )
        return self


class EventSettings(Section):
    """Consumer groups, and optional fields of events."""

    groups: dict[GroupName, tuple[ResourceName, ...]] = Field(
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


class GroupSettings(Section):
    """Consumer groups that do not read."""

    late_after: float = Field(
        600,
        ge=0,
        description="seconds without a read, while events wait, after which a group is late and the resource "
        "degraded; 0: never",
    )


class ForwardSettings(Section):
    """The signature of the requests of `ordersync forward`."""

    secret: WebhookSecrets = Field(
        None,
        description="secret of the signature, shared with the receiver; several with spaces between sign all, newest "
        "first; no signature if not set",
    )

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets that are set, newest first."""
        return tuple(each.get_secret_value() for each in keys_of(self.secret))


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
    resources: dict[ResourceName, KeptSettings] = Field(default={}, description="limits of single resources")
    every: float = Field(60, ge=1, le=86400, description="seconds between two passes")
    dead_letters: float = Field(
        7_776_000, ge=0, description="seconds that dead letters are kept; 0: no limit"
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
