"""What the headers of a response say of the gateway's rate limit. No I/O.

Sources: RFC 9110, 10.2.3 (Retry-After); draft-ietf-httpapi-ratelimit-headers (RateLimit-*, RateLimit); the
X-RateLimit-* headers that many gateways send, which no standard defines; Azure API Management (retry-after-ms).
"""

from __future__ import annotations

import email.utils
import re
from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

MAX_PAUSE = 86_400.0
"""Longest pause in seconds. If the server asks for more, the request is retried after a day."""
_MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms")
_REMAINING = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining")
_RESET = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_REMAINING_ITEM = re.compile(r"(?:^|[;,\s])(?:r|remaining)\s*=\s*([0-9]{1,20})")
_RESET_ITEM = re.compile(r"(?:^|[;,\s])(?:t|reset)\s*=\s*([0-9]{1,20})")
_EPOCH = 1e9
_EPOCH_MS = 1e12


def retry_after(response: httpx.Response, now: float) -> float | None:
    """Return the seconds to wait according to Retry-After; None if it says nothing that can be read.

    It is a date, or a number, which may have a fraction: the RFC does not permit that, and some gateways send it. A
    429 without it is repeated when the rate limit is reset, if the response says when.

    Args:
        response: A response that refuses the request.
        now: The time in seconds since 1970.

    """
    for name in _MILLISECONDS:
        if (value := _number(response.headers.get(name))) is not None:
            return min(value / 1000, MAX_PAUSE)
    text = response.headers.get("retry-after", "").strip()
    if (value := _number(text)) is not None:
        return min(value, MAX_PAUSE)
    try:
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return min(max(0.0, date.timestamp() - now), MAX_PAUSE)
    except (ValueError, OverflowError):
        return _seconds_to_reset(response, now) if response.status_code == 429 else None


def exhausted_for(response: httpx.Response, now: float) -> float | None:
    """Return for how many seconds the gateway permits no further request; None if it does not say so.

    Args:
        response: Any response.
        now: The time in seconds since 1970.

    """
    remaining = _first(response, _REMAINING, _REMAINING_ITEM)
    if remaining is None or remaining >= 1:
        return None
    return _seconds_to_reset(response, now)


def _seconds_to_reset(response: httpx.Response, now: float) -> float | None:
    """Return the seconds until the limit is reset. Gateways send them as such, or the time in seconds since 1970."""
    reset = _first(response, _RESET, _RESET_ITEM)
    if reset is None:
        return None
    if reset >= _EPOCH_MS:
        reset /= 1000
    return min(max(0.0, reset - now if reset >= _EPOCH else reset), MAX_PAUSE)


def _first(response: httpx.Response, names: tuple[str, ...], item: re.Pattern[str]) -> float | None:
    """Return the number in the first of these headers, or in the one header RateLimit that has them as items."""
    headers = response.headers
    for name in names:
        if name in headers and (value := _number(headers[name])) is not None:
            return value
    found = item.search(headers["ratelimit"].lower()) if "ratelimit" in headers else None
    return float(found[1]) if found else None


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None
