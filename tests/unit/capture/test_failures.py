"""Each error of the tree has one class, and each class its consequences."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature

import pytest

from ordersync_consumer import errors as consumer_errors
from worker import errors
from worker.capture.failures import BACKOFF, MAX_REQUESTED_PAUSE, Failure, classify, retry_delay
from worker.errors import (
    ApiError,
    FilterBroken,
    LoginRejected,
    OrdersyncError,
    RateLimited,
    RedisFull,
    UnreadableAnswer,
)

EXPECTED = {
    "SettingsError": Failure.GATEWAY,
    "RedisUnavailable": Failure.GATEWAY,
    "RedisFull": Failure.GATEWAY,
    "LeaseLost": Failure.GATEWAY,
    "LeaseHeld": Failure.GATEWAY,
    "DataError": Failure.GATEWAY,
    "SourceMoved": Failure.GATEWAY,
    "GroupGone": Failure.GATEWAY,
    "RedisWentBack": Failure.GATEWAY,
    "ConsumerReplaced": Failure.GATEWAY,
    "NotReplayable": Failure.GATEWAY,
    "FunctionMissing": Failure.GATEWAY,
    "CommandFails": Failure.GATEWAY,
    "ReceiverGone": Failure.GATEWAY,
    "ReceiverUnavailable": Failure.GATEWAY,
    "OrderMeshError": Failure.GATEWAY,
    "ContinuationRefused": Failure.PAGE,
    "GatewayUnreachable": Failure.GATEWAY,
    "OutcomeUnknown": Failure.GATEWAY,
    "PartialBulk": Failure.GATEWAY,
    "LoginRejected": Failure.GATEWAY,
    "TokenRejected": Failure.GATEWAY,
    "UnreadableAnswer": Failure.GATEWAY,  # of no page: the response to a login, for example
    "ResponseTooLarge": Failure.GATEWAY,  # likewise
    "ContractMismatch": Failure.GATEWAY,  # the probe has found no list
    "FilterBroken": Failure.SHORTCUT,
    "SortBroken": Failure.SHORTCUT,
    "ChoiceBroken": Failure.SHORTCUT,
    "ApiError": Failure.REFUSED,
    "Forbidden": Failure.REFUSED,
    "Conflict": Failure.REFUSED,
    "Unaddressable": Failure.REFUSED,
    "NotFound": Failure.LIST_GONE,
    "RateLimited": Failure.GATEWAY,
    "ServerError": Failure.SERVER,
}


def tree(root: type[OrdersyncError] = OrdersyncError) -> Iterator[type[OrdersyncError]]:
    """Every class of the error tree below `root`."""
    for kind in root.__subclasses__():
        if kind.__module__.startswith((f"{errors.__name__}.", consumer_errors.__name__)):
            yield kind
            yield from tree(kind)


def make(kind: type[OrdersyncError]) -> OrdersyncError:
    """An error of this class; what it is about does not matter."""
    values = {
        "int": 400,
        "float": 1.0,
        "tuple[str, ...]": (),
        "tuple[Any, ...]": (),
        "OrderMeshError": ValueError(),
    }
    if kind.__init__ is Exception.__init__:
        return kind("x")
    needed = [each for each in list(signature(kind).parameters.values()) if each.default is each.empty]
    return kind(*(values.get(str(each.annotation), "x") for each in needed))


def test_each_error_of_the_tree_has_a_class() -> None:
    """A new error has to be added here, so that its class is a decision."""
    assert {kind.__name__: classify(make(kind)) for kind in tree()} == EXPECTED


@pytest.mark.parametrize("page", [0, 7])
def test_a_response_to_a_page_request_concerns_the_page(page: int) -> None:
    """Also the first one, whose number is 0."""
    assert classify(UnreadableAnswer("orders.search", "not a list", page=page)) is Failure.PAGE


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Failure.REFUSED), (403, Failure.REFUSED), (404, Failure.LIST_GONE), (410, Failure.LIST_GONE),
        (429, Failure.GATEWAY), (500, Failure.SERVER), (501, Failure.SERVER), (503, Failure.SERVER),
    ],
)  # fmt: skip
def test_statuses(status: int, expected: Failure) -> None:
    """The class of each HTTP status that the client raises an error for."""
    assert classify(errors.api_error_class(status)("orders.search", status, "")) is expected


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), MemoryError()])
def test_other_errors_say_nothing_about_a_page(error: Exception) -> None:
    """An error that is not of the tree is no reason to start over, to disable a filter or to probe again."""
    assert classify(error) is Failure.GATEWAY


def test_what_follows_from_a_class() -> None:
    """Other pages may be readable unless the gateway is away; only the server's own failures may pass."""
    assert {kind for kind in Failure if kind.is_of_one_request} == {
        Failure.PAGE, Failure.SERVER, Failure.REFUSED, Failure.LIST_GONE,
    }  # fmt: skip
    assert {kind for kind in Failure if kind.may_pass} == {Failure.PAGE, Failure.SERVER}


def test_a_failure_is_retried_with_backoff() -> None:
    """5 s, doubled with each failure in a row, and a minute at most; however many there are."""
    delays = [retry_delay(FilterBroken("x", "y"), failures) for failures in (0, 1, 2, 3, 4, 50_000)]
    assert delays == [5, 10, 20, 40, 60, 60]


def test_a_refused_login_waits_at_once() -> None:
    """Each try may bring the account closer to being locked."""
    assert retry_delay(LoginRejected(401, "no"), 0) == BACKOFF.most


def test_a_full_redis_is_tried_again_soon() -> None:
    """There is room as soon as a consumer acknowledges."""
    assert retry_delay(RedisFull(), 9) == BACKOFF.first


@pytest.mark.parametrize(
    ("requested", "expected"), [(30.0, 30.0), (86_400.0, MAX_REQUESTED_PAUSE), (0.0, 5.0)]
)
def test_a_pause_that_the_server_requests(requested: float, expected: float) -> None:
    """It is kept, up to a quarter of an hour."""
    for error in (RateLimited("x", 429, ""), ApiError("x", 503, "")):
        error.retry_after = requested
        assert retry_delay(error, 0) == expected
