"""What the report of the probe says in words."""

from __future__ import annotations

import msgspec
import pytest

from worker.admin.probe_report import shortcomings, withdrawn
from worker.ordermesh.contract.findings import Capabilities, Withdrawn, no, yes

FOUND = Capabilities(
    resource="orders",
    search="orders.search",
    at=1_772_448_067.0,
    configured="x",
    state="found",
    filtering=no("ignored"),
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "every poll is a full scan"),
        ({"descending": {"sort": "-updatedAt"}}, "polls read the newest changes first"),
        (
            {"status_parameter": "status", "single": yes("read")},
            "polls read by status what is in no final status",
        ),
    ],
)
def test_what_is_read_without_a_filter(changes: dict[str, object], words: str) -> None:
    """The cheapest way that the gateway honours, as the strategy chooses it."""
    (said,) = shortcomings(msgspec.structs.replace(FOUND, **changes))
    assert words in said


def test_what_was_honoured_before() -> None:
    """With the time until which, and the command that takes the loss for the contract."""
    lost = msgspec.structs.replace(
        FOUND, withdrawn=(Withdrawn("filter", "updatedFrom", "omits records", FOUND.at),)
    )
    (said,) = withdrawn(lost)
    assert said == (
        "the filter by modification (updatedFrom) was honoured until 2026-03-02T10:41:07.000Z; if the gateway has lost "
        "it for good: ordersync contract probe orders --accept"
    )


def test_what_follows_a_probe() -> None:
    """What was honoured before a probe and is not after it is withdrawn; a sort counts only without a filter."""
    before = msgspec.structs.replace(FOUND, since="updatedFrom", descending={"sort": "-updatedAt"})
    after = msgspec.structs.replace(FOUND, at=FOUND.at + 60).following(before)
    assert [(item.capability, item.at) for item in after.withdrawn] == [
        ("filter", FOUND.at + 60),
        ("sort", FOUND.at + 60),
    ]
    again = msgspec.structs.replace(FOUND, at=FOUND.at + 120).following(after)
    assert again.withdrawn == after.withdrawn
    filtered = msgspec.structs.replace(FOUND, since="updatedFrom").following(again)
    assert filtered.withdrawn == ()
    empty = msgspec.structs.replace(FOUND, state="empty").following(after)
    assert empty.withdrawn == after.withdrawn
