"""The sections of the settings, with their rules and defaults.

The values are read from their sources in `settings.py`.
"""

from worker.config.sections.account import Account
from worker.config.sections.connections import (
    NO_REPLICAS,
    ApiSettings,
    EmbeddedSettings,
    RedisSettings,
    Replicas,
)
from worker.config.sections.events import (
    BackpressureSettings,
    EventSettings,
    ForwardSettings,
    GroupSettings,
    KeptSettings,
    PrivacySettings,
    RetentionSettings,
)
from worker.config.sections.monitoring import LogSettings, MetricsSettings, TraceSettings
from worker.config.sections.reading import (
    ConcurrencySettings,
    InterestSettings,
    PollSettings,
    ReconcileSettings,
    ResyncSettings,
)
from worker.config.sections.section import Section

__all__ = [
    "NO_REPLICAS",
    "Account",
    "ApiSettings",
    "BackpressureSettings",
    "ConcurrencySettings",
    "EmbeddedSettings",
    "EventSettings",
    "ForwardSettings",
    "GroupSettings",
    "InterestSettings",
    "KeptSettings",
    "LogSettings",
    "MetricsSettings",
    "PollSettings",
    "PrivacySettings",
    "ReconcileSettings",
    "RedisSettings",
    "Replicas",
    "ResyncSettings",
    "RetentionSettings",
    "Section",
    "TraceSettings",
]
