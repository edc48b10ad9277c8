"""The log: one pipeline for the events of this program and for the lines of arq, httpx and redis-py.

It writes console lines on a terminal and JSON lines elsewhere, always to stderr, because stdout is for results. The
catalogue (`worker.telemetry.catalog`) declares all events, and every line conforms to it. A redaction processor at the
end of the pipeline removes secrets and personal data from every line, including those of libraries.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import deque
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote, unquote

import structlog

from worker.telemetry.catalog import EXTRA, LIBRARY, LogLevel
from worker.telemetry.catalog.conformity import conformity

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

HIDDEN = "[hidden]"

# Keys whose values are never written: credentials and tokens, and the fields of an order with personal data.
_CREDENTIAL = r"secret|password|passwd|token|authorization|cookie|api_?key|credential"
_PERSON = r"address|e_?mail|phone|street|recipient|(first|last|full|user|customer|company)_?name"
_WHOLE_KEY = r"line[123]|zip(_?code)?|post(al)?_?code|city|data|record|body|card_?(first|last)\d"
_CREDENTIAL_KEY = re.compile(_CREDENTIAL, re.IGNORECASE)
_PERSONAL_KEY = re.compile(rf"{_PERSON}|^({_WHOLE_KEY})$", re.IGNORECASE)
_VALUE = r"""("(\\.|[^"\\])*"|'(\\.|[^'\\])*'|\d+)"""
# Every repetition that must be followed by another character is bounded: a long word must not take quadratic time,
# which would block the event loop.
_PATTERNS = (
    # A field of a record, quoted in a message as JSON or as a Python literal.
    re.compile(
        rf"""(?i)(["'])(\w{{0,40}}({_CREDENTIAL}|{_PERSON})\w{{0,40}}|{_WHOLE_KEY})\1\s*:\s*{_VALUE}"""
    ),
    re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*){0,2}"),
    re.compile(
        r"(?i)(?<=[?&\s\"'])(access_?token|refresh_?token|client_?secret|password)[\"']?\s*[=:]\s*[\"']?[^&\s\"',}]+"
    ),
    re.compile(r"[\w.%+'-]{1,64}@[\w-]+(\.[\w-]+)+"),
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]{0,100}):(?!\*\*\*@)[^/\s@]+@")

_LEVELS = frozenset(level.value for level in LogLevel)
_TRACE = ("exc_info", "stack_info", "exception")

NOISY = ("arq", "httpx", "httpcore", "aiohttp", "asyncio")
"""Loggers that write an info line for every job or request: at level `info` only their warnings are written."""


class Redaction:
    """Structlog processor that hides secrets: known values, values of sensitive keys, and text that looks like one."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._passing: deque[str] = deque(maxlen=200)
        self._longest_first: tuple[str, ...] = ()

    def add_passing(self, *secrets: str | None) -> None:
        """Hide short-lived secrets, such as tokens. Only the last 200 are kept."""
        self._passing.extend(secret for secret in secrets if secret and secret not in self._passing)
        self.add()

    def add(self, *secrets: str | None) -> None:
        """Hide these values wherever they occur. Values of fewer than 6 characters are skipped: they may be words."""
        long = {secret for secret in secrets if secret and len(secret) >= 6}
        # As given, and as encoded in a URL.
        self._values |= long | {quote(secret, safe="") for secret in long} | {unquote(s) for s in long}
        # A secret may be part of a longer one, whose rest would stay visible.
        self._longest_first = tuple(sorted({*self._values, *self._passing}, key=len, reverse=True))

    def forget_all(self) -> None:
        """Forget all secrets, between tests."""
        self._values.clear()
        self._passing.clear()
        self._longest_first = ()

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        """Return the event without secrets and personal data."""
        return {key: self._clean(key, value) for key, value in event.items()}

    def known(self, text: str) -> str:
        """Return `text` without the secrets that were added."""
        for value in self._longest_first:
            text = text.replace(value, HIDDEN)
        return text

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        text = _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", self.known(text))
        for pattern in _PATTERNS:
            text = pattern.sub(HIDDEN, text)
        return text

    def _clean(self, key: str, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        is_number = isinstance(value, int | float)  # a number of tokens is not a token
        if _PERSONAL_KEY.search(key) or (_CREDENTIAL_KEY.search(key) and not is_number):
            return HIDDEN
        if isinstance(value, Mapping):
            return {str(k): self._clean(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean("", item) for item in value]
        return value if is_number else self.text(str(value))


redaction = Redaction()
"""The redaction of the process. Code that reads or receives a secret adds it."""


class Repeats:
    """Limits how often the same message is logged.

    `allow(key)` returns True the first time and then once in `seconds`. It counts the suppressed messages;
    `held_back(key)` returns that count and resets it.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def allow(self, key: str, now: float) -> bool:
        """Return True if the message may be logged now; `now` in seconds of a monotonic clock."""
        last = self._last.get(key)
        if last is not None and now - last < self._seconds:
            self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return False
        self._last[key] = now
        return True

    def held_back(self, key: str) -> int:
        """Return how many messages were suppressed since the last one was logged."""
        return self._suppressed.pop(key, 0)

    def forget_all(self, prefix: str) -> None:
        """Forget every key that starts with `prefix`, so that its next message is logged."""
        for key in [key for key in self._last if key.startswith(prefix)]:
            self._last.pop(key)
            self._suppressed.pop(key, None)


def configure(log_format: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Send every log line of the process, including those of libraries, through one pipeline to `stream` (stderr)."""
    stream = stream or sys.stderr
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    context = structlog.contextvars.merge_contextvars
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.StackInfoRenderer(),
    ]
    foreign: list[Processor] = [structlog.stdlib.ExtraAdder(), _of_a_library]
    tail: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _one_line_of_trace,
        redaction,
    ]
    if console:
        colours = stream.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org
        tail += [
            _for_people,
            structlog.dev.ConsoleRenderer(
                colors=colours,
                sort_keys=False,
                pad_event_to=14,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    else:
        tail += [_order, structlog.processors.JSONRenderer(sort_keys=False)]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*foreign, context, *shared], processors=tail
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[context, conformity, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def get_logger(**fields: Any) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that adds `fields` to its lines."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger("ordersync")
    return logger.bind(**fields) if fields else logger


def _of_a_library(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Convert a line of a library: its text becomes `message`, and its other fields are moved into `extra`."""
    record = event["_record"]
    kept = {name: value for name, value in event.items() if name.startswith("_") or name in _TRACE}
    added = {name: value for name, value in event.items() if name not in kept and name != "event"}
    line = {**kept, "event": LIBRARY, "logger": record.name, "message": event["event"]}
    return {**line, EXTRA: added} if added else line


def _one_line_of_trace(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Move a traceback into a field, so that the line stays one line and the redaction processes the traceback."""
    if event.get("exc_info"):
        event = structlog.processors.format_exc_info(_logger, _method, event)
    return event


def _for_people(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Shorten a line for a terminal: the time without the date, and the summary of a poll without zero counts."""
    event["timestamp"] = event["timestamp"][11:19]
    if event.get("event") == LIBRARY:
        event["event"] = event.pop("message")
    if event.get("event") != "poll_done":
        return event
    plain = {"run_id", "plan", "reason"}
    return {key: value for key, value in event.items() if value not in (0, "") and key not in plain}


def _order(_logger: Any, _method: str, event: EventDict) -> MutableMapping[str, Any]:
    """Put the time, level and event first."""
    first: Iterable[str] = ("timestamp", "level", "event")
    if event["level"] not in _LEVELS:
        event["level"] = LogLevel.INFO.value  # a custom level of a library
    return {**{key: event[key] for key in first if key in event}, **event}
