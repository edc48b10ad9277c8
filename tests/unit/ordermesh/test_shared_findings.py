"""What of the findings of one account is true for another one of the same gateway."""

from __future__ import annotations

from msgspec.structs import replace

from worker.ordermesh.contract.findings import (
    UNKNOWN,
    Capabilities,
    is_shareable,
    joined,
    no,
    taken_over,
    yes,
)

FOUND = Capabilities(
    resource="orders", search="orders.search", at=1.0, configured="x", state="found", pages=yes("seen"), total=50,
    filtering=yes("seen"), since="updatedFrom", reach=yes("seen"), totals=no("seen"), requests=26,
)  # fmt: skip


def test_what_can_be_shared() -> None:
    """Only what a token that may read all has seen of a list with records whose pages are turned."""
    assert is_shareable(FOUND)
    for state in ("empty", "forbidden", "missing", "unreadable"):
        assert not is_shareable(replace(FOUND, state=state))
    assert not is_shareable(replace(FOUND, pages=UNKNOWN))
    assert not is_shareable(replace(FOUND, pages=no("ignored")))
    assert not is_shareable(replace(FOUND, limited=True))
    assert not is_shareable(replace(FOUND, unfinished="status 503"))


def test_what_is_of_an_account_is_not_taken_over() -> None:
    """The total, whether it counts what the token may read, and whether paging reaches the end of a longer list."""
    taken = taken_over(FOUND, None)
    assert (taken.total, taken.totals, taken.reach, taken.requests) == (None, UNKNOWN, UNKNOWN, 0)
    assert (taken.since, taken.at, taken.origin) == ("updatedFrom", 1.0, "gateway")
    capped = replace(FOUND, reach=no("the list ends after 10000 records"))
    assert taken_over(capped, FOUND).reach == capped.reach
    assert taken_over(capped, FOUND).totals == FOUND.totals


def test_a_list_that_shows_nothing_takes_nothing_away() -> None:
    """A filter that could not be tested with these records stays; one that was tested and failed does not."""
    poor = replace(FOUND, at=2.0, filtering=UNKNOWN, since=None)
    assert joined(FOUND, poor) == replace(FOUND, at=2.0)
    wrong = replace(FOUND, filtering=no("omits records"), since=None)
    assert joined(FOUND, wrong) == wrong
