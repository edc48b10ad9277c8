"""One account, with the settings that apply to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from pydantic import SecretStr

from worker.config.sections.connections import NO_REPLICAS, ApiSettings, Replicas
from worker.config.sections.events import (
    BackpressureSettings,
    EventSettings,
    GroupSettings,
    PrivacySettings,
    RetentionSettings,
)
from worker.config.sections.reading import InterestSettings, ReconcileSettings, ResyncSettings
from worker.keys import KeySpace


class Account(msgspec.Struct, frozen=True):
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
    audit_history: str = "changed"
    keys: KeySpace = msgspec.field(default_factory=KeySpace)
    reconcile: ReconcileSettings = msgspec.field(default_factory=ReconcileSettings)
    contract_file: Path | None = None
    interest: InterestSettings = msgspec.field(default_factory=InterestSettings)
    privacy: PrivacySettings = msgspec.field(default_factory=PrivacySettings)
    events: EventSettings = msgspec.field(default_factory=EventSettings)
    groups: GroupSettings = msgspec.field(default_factory=GroupSettings)
    retention: RetentionSettings = msgspec.field(default_factory=RetentionSettings)
    backpressure: BackpressureSettings = msgspec.field(default_factory=BackpressureSettings)
    resync: ResyncSettings = msgspec.field(default_factory=ResyncSettings)
    secret_keys: tuple[SecretStr, ...] = ()
    replicas: Replicas = NO_REPLICAS
