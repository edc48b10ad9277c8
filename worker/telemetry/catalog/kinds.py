"""What an event of the log is made of."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What the value of a field may be."""

    TEXT = "text"
    COUNT = "count"
    """A whole number."""
    NUMBER = "number"
    """A number with a fraction: seconds, mostly."""
    FLAG = "flag"
    """True or false."""
    TEXTS = "texts"
    """A list of texts."""
    TIME = "time"
    """A moment, as RFC 3339 in UTC."""
    COUNT_OR_NULL = "count or null"
    TEXT_OR_NULL = "text or null"
    OBJECT = "object"
    """Whatever somebody else has added to a line."""


class LogField(msgspec.Struct, frozen=True):
    """A field: it means the same in every event that has it, and is of one kind."""

    name: str
    kind: Kind
    meaning: str


class LogLevel(StrEnum):
    """How grave it is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LogEvent(msgspec.Struct, frozen=True):
    """An event: its level, what it says, what to do about it, and the fields it has.

    `fields` are always there, `optional` where they apply. Every event may have the common fields besides.
    """

    name: str
    level: LogLevel
    meaning: str
    action: str = ""
    fields: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
