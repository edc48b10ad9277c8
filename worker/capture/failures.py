"""What a failed request says about the list that was read, and when to try again. No I/O."""

from __future__ import annotations

from enum import StrEnum

from worker.backoff import Backoff
from worker.errors import (
    ApiError,
    ChoiceBroken,
    ContinuationRefused,
    FilterBroken,
    GatewayUnreachable,
    LoginRejected,
    NotFound,
    RateLimited,
    RedisFull,
    ServerError,
    SortBroken,
    UnreadableAnswer,
)

BACKOFF = Backoff(first=5.0, most=60.0)
"""Between two polls of a resource that fail. A refused login waits for the longest pause at once."""
MAX_REQUESTED_PAUSE = 900.0
"""Seconds. However long a pause the server requests, a resource is not left alone for longer."""


class Failure(StrEnum):
    """What an error concerns."""

    PAGE = "page"
    """The response to a page request is not a list, or not the page that was requested."""
    SERVER = "server"
    """The server failed at one request (5xx)."""
    REFUSED = "refused"
    """The server refused one request (4xx)."""
    LIST_GONE = "list_gone"
    """The path of the list does not exist (404)."""
    SHORTCUT = "shortcut"
    """A filter, sort or choice is not honoured; a full scan does without it."""
    GATEWAY = "gateway"
    """No page can be read now, whichever is requested: no connection, no login, too many requests, or no list."""

    @property
    def is_of_one_request(self) -> bool:
        """Whether other requests may succeed: for other pages, or without a filter or sort."""
        return self in {Failure.PAGE, Failure.SERVER, Failure.REFUSED, Failure.LIST_GONE}

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self in {Failure.PAGE, Failure.SERVER}


def classify(error: Exception) -> Failure:
    """Return what an error concerns that came up while a list was read."""
    match error:
        case FilterBroken() | SortBroken() | ChoiceBroken():
            return Failure.SHORTCUT
        case UnreadableAnswer(page=int()) | ContinuationRefused():
            return Failure.PAGE
        case NotFound():
            return Failure.LIST_GONE
        case ServerError():
            return Failure.SERVER
        case ApiError() if not isinstance(error, RateLimited):
            return Failure.REFUSED
        case _:
            return Failure.GATEWAY


def may_be_of_one_page(error: Exception) -> bool:
    """Return whether an error of a page may be one of that page alone, so that other pages can be read."""
    return isinstance(error, GatewayUnreachable) or classify(error) in {
        Failure.PAGE,
        Failure.SERVER,
        Failure.REFUSED,
    }


def retry_delay(error: Exception, failures: int) -> float:
    """Return the seconds until the next poll of a resource, after this error and `failures` in a row before it."""
    match error:
        case LoginRejected():
            return BACKOFF.most
        case RedisFull():
            return BACKOFF.first
        case ApiError(retry_after=requested) if requested:
            return min(requested, MAX_REQUESTED_PAUSE)
        case _:
            return BACKOFF.ceiling(failures + 1)
