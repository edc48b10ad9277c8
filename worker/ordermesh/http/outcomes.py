"""What the status of a response means for its request: an answer, an error, or another attempt. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import OutcomeUnknown
from worker.ordermesh.http import rate_limits, refusals
from worker.ordermesh.http.reply import Reply, reply_of
from worker.ordermesh.http.sender import Transient

if TYPE_CHECKING:
    import httpx

    from worker.ordermesh.http.requests import Request

RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
RETRIED_WRITE_STATUSES = frozenset({429})
"""For a write that must not be done twice: the status with which the server says that it has not begun."""
UNANSWERED_STATUSES = frozenset({408, 502, 504})
"""Statuses with which a gateway says that it does not know the outcome of the request."""


def reply_to(request: Request, response: httpx.Response, *, again: bool, now: float) -> Reply:
    """Return the reply that a response is.

    Args:
        request: The request.
        response: The response to it.
        again: The request was sent before, and that response was lost or failed.
        now: The time, in seconds since 1970.

    Raises:
        Transient: Another attempt may succeed.
        OutcomeUnknown: The gateway does not know whether a write was done.
        ApiError: The server refuses the request.

    """
    if response.is_success:
        return reply_of(request.key, response)
    if again and request.method == "DELETE" and response.status_code == 404:
        return reply_of(request.key, response)  # a previous attempt has done it; its response was lost
    retry_after = None
    if response.status_code in RETRIED_STATUSES:
        retry_after = rate_limits.retry_after(response, now)
    error = refusals.api_error(request.key, response, retry_after)
    if not request.repeatable and response.status_code in UNANSWERED_STATUSES:
        raise OutcomeUnknown(request.key, str(error))
    if response.status_code in (RETRIED_STATUSES if request.repeatable else RETRIED_WRITE_STATUSES):
        raise Transient(error, retry_after)
    raise error
