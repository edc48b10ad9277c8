"""What the headers of a response say of the gateway's rate limit."""

import httpx
import pytest

from worker.ordermesh.http.rate_limits import exhausted_for, retry_after

NOW = 1_800_000_000.0


def response(status: int, headers: dict[str, str]) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): text for name, text in headers.items()})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "2.493"}, 2.493),
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "0"}, 0.0),
        ({"Retry_After": "9" * 400}, 86_400.0),
        ({"retry_after_ms": "250", "Retry_After": "7"}, 0.25),
        ({"X_RateLimit_Reset": "12"}, 12.0),
        ({"X_RateLimit_Reset": str(int(NOW) + 12)}, 12.0),
        ({"X_RateLimit_Reset": str((int(NOW) + 12) * 1000)}, 12.0),
        ({"X_RateLimit_Reset": str(int(NOW) - 12)}, 0.0),
        ({"RateLimit_Reset": "3", "Retry_After": "5"}, 5.0),
        ({"RateLimit": "limit=100, remaining=0, reset=50"}, 50.0),
        ({"RateLimit": '"default";r=0;t=50'}, 50.0),
        ({}, None),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "-1"}, None),
        ({"Retry_After": "1e3"}, None),
    ],
)
def test_the_pause_after_a_refusal(headers: dict[str, str], seconds: float | None) -> None:
    """Retry-After comes first; a 429 without it is repeated when the limit is reset."""
    assert retry_after(response(429, headers), NOW) == seconds


def test_a_reset_says_nothing_of_a_failure() -> None:
    """Each response may say when the limit is reset: only a refusal for too many requests waits for it."""
    assert retry_after(response(503, {"X_RateLimit_Reset": "3600"}), NOW) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "2"}, 2.0),
        ({"RateLimit_Remaining": "0", "RateLimit_Reset": "2"}, 2.0),
        ({"RateLimit": "limit=10, remaining=0, reset=2"}, 2.0),
        ({"RateLimit": '"burst";r=0;t=2'}, 2.0),
        ({"X_RateLimit_Remaining": "1", "X_RateLimit_Reset": "2"}, None),
        ({"X_RateLimit_Remaining": "0"}, None),
        ({"X_RateLimit_Reset": "2"}, None),
        ({"X_RateLimit_Remaining": "none", "X_RateLimit_Reset": "2"}, None),
        ({}, None),
    ],
)
def test_when_no_further_request_is_permitted(headers: dict[str, str], seconds: float | None) -> None:
    """It is known from any response, before a request is refused."""
    assert exhausted_for(response(200, headers), NOW) == seconds
