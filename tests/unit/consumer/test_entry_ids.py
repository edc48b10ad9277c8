"""Ids of entries: where a new group begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordersync_consumer.groups import id_before

NUMBER = st.one_of(st.integers(0, 3), st.integers(2**64 - 3, 2**64 - 1), st.integers(0, 2**64 - 1))


def place(entry_id: str) -> int:
    """The number of an id among all that are possible."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds) * 2**64 + int(number or 0)


@given(milliseconds=NUMBER, number=NUMBER)
def test_no_id_lies_between(milliseconds: int, number: int) -> None:
    """A group that was created with the result gets this entry first, and none before it."""
    before = place(id_before(f"{milliseconds}-{number}"))
    assert before == max(0, place(f"{milliseconds}-{number}") - 1)


def test_an_id_without_its_second_number() -> None:
    """It is the first of its millisecond."""
    assert id_before("5") == id_before("5-0") == f"4-{2**64 - 1}"


@pytest.mark.parametrize(
    "text", ["", "-", "5-", "-5", "a", "5-5-5", "18446744073709551616", "5-18446744073709551616", "\u0665"]
)
def test_what_is_no_id(text: str) -> None:
    """Redis would refuse it."""
    with pytest.raises(ValueError, match="not the id"):
        id_before(text)
