"""Which records are of interest, and what becomes of those that are not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.capture.records.actions import Action
from worker.capture.records.decoding import decode
from worker.capture.records.diff import Change, decide
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import RecordState
from worker.capture.records.raw_records import observe
from worker.capture.records.scope import EVERYTHING, RecordScope, scope_of
from worker.capture.registry import ORDERS

OPEN = scope_of(ORDERS, merchants=(), statuses=("Open",), final=())
MINE = scope_of(ORDERS, merchants=("m1",), statuses=(), final=())


def record(**fields: Any) -> bytes:
    order = {"id": "o1", "createdAt": "2026-01-01T00:00:00Z", "merchantId": "m1", "status": "Open"}
    return msgspec.json.encode(order | fields)


def step(raw: bytes, before: bytes, interest: RecordScope, names: FieldIndex) -> Change | None:
    """What a page with this record leads to; None where its bytes are the ones that are known."""
    (observed,) = observe(ORDERS, [msgspec.Raw(raw)], interest)
    if before and RecordState.unpack(before).raw == observed.raw:
        return None
    decoded = decode(ORDERS, observed, before, frozenset(), scope=interest)
    if decoded.content:
        names.update([*names._names, *names.unknown(decoded.content.names)])
    return decide(decoded, names, baseline=True)


def life(interest: RecordScope, *records: bytes) -> list[str]:
    """What is done about each of these, one after the other; `-` where nothing is looked at."""
    names, before, done = FieldIndex(), b"", []
    for raw in records:
        change = step(raw, before, interest, names)
        done.append("-" if change is None else change.action.value)
        before = before if change is None or change.action is Action.STALE else change.after
    return done


def test_a_record_that_comes_in_is_published_then() -> None:
    """Outside it is known and silent, and costs nothing while its bytes are the same."""
    outside = record(status="Draft")
    assert life(OPEN, outside, outside, record(status="Draft", x=1), record(), record()) == [
        "outside", "-", "outside", "created", "-",
    ]  # fmt: skip


def test_a_record_that_goes_out_is_published_once_more() -> None:
    """Consumers see the change by which it goes, not those that follow, and the one by which it comes back."""
    gone = record(status="Shipped")
    assert life(OPEN, record(), gone, gone, record(status="Shipped", x=1), record(x=2), record(x=3)) == [
        "created", "updated", "-", "outside", "updated", "updated",
    ]  # fmt: skip


def test_back_as_it_was_published_last_is_no_change() -> None:
    """What was silent meanwhile and is taken back has not happened for a consumer."""
    gone = record(status="Shipped")
    back = life(OPEN, record(), gone, record(status="Shipped", x=1), gone)
    assert back == ["created", "updated", "outside", "outside"]


def test_an_older_record_outside() -> None:
    """Nothing of it is published, so it is remembered as it is shown; its next change inside is published."""
    new, old = record(status="Draft", updatedAt="2026-02-02T00:00:00Z"), record(status="Draft")
    assert life(OPEN, new, old, old, record()) == ["outside", "outside", "-", "created"]


def test_an_older_record_that_comes_back_in_has_to_be_confirmed() -> None:
    """A list that lags behind shows the record as it was before it left the scope."""
    gone = record(status="Shipped", updatedAt="2026-02-02T00:00:00Z")
    assert life(OPEN, record(), gone, record(x=2)) == ["created", "updated", "stale"]


def test_by_merchant() -> None:
    """Records of other merchants are outside; one that does not tell is not."""
    assert life(MINE, record(merchantId="m2")) == ["outside"]
    assert life(MINE, record(merchantId=None)) == life(MINE, record()) == ["created"]


def test_statuses_may_be_numbers() -> None:
    """Those of shipments are, in the record as in the settings."""
    interest = RecordScope(None, "shipmentStatus", statuses=frozenset({"4"}))
    (inside, outside) = ({"id": "a", "shipmentStatus": 4}, {"id": "a", "shipmentStatus": 1})
    assert life(interest, msgspec.json.encode(outside), msgspec.json.encode(inside)) == ["outside", "created"]


@pytest.mark.parametrize("before", [EVERYTHING, OPEN])
@pytest.mark.parametrize("after", [EVERYTHING, MINE])
def test_another_interest_looks_at_everything_anew(before: RecordScope, after: RecordScope) -> None:
    """When the settings change, no record is taken for unchanged: one that is of interest now is published."""
    names = FieldIndex()
    raw = record(status="Draft") if before is OPEN else record()
    first = step(raw, b"", before, names)
    assert first is not None
    second = step(raw, first.after, after, names)
    if before is after:
        assert second is None
    else:
        assert second is not None
        assert second.action is (Action.CREATED if before is OPEN else Action.NOISE)


@given(st.lists(st.sampled_from(["Open", "Held", "Shipped"]), min_size=1, max_size=12))
def test_what_is_published_can_be_followed(statuses: list[str]) -> None:
    """Versions have no gaps, the last event is right while a record is inside, and it never ends inside in silence."""
    names, before, told = FieldIndex(), b"", []
    for at, status in enumerate(statuses):
        change = step(record(status=status, at=at), before, OPEN, names)
        assert change is not None
        before = change.after
        if change.action in {Action.CREATED, Action.UPDATED}:
            told.append((change.version, status))
    assert [version for version, _ in told] == list(range(1, len(told) + 1))
    if statuses[-1] == "Open":
        assert told
        assert told[-1][1] == "Open"
    elif told:
        assert told[-1][1] != "Open"


def test_which_statuses_are_open() -> None:
    """Those that were seen, or are of interest, less the final ones."""
    final = scope_of(ORDERS, merchants=(), statuses=(), final=("Fulfilled", "Cancelled"))
    assert final.open_statuses({"Open", "Fulfilled", "Held"}) == ["Held", "Open"]
    assert OPEN.open_statuses({"Held"}) == ["Open"]
    records = [msgspec.Raw(record()), msgspec.Raw(b"{}"), msgspec.Raw(b"nonsense")]
    assert final.statuses_of(records) == ["Open", None, None]
    assert [final.is_open(status) for status in ("Open", "Fulfilled", None)] == [True, False, False]
    assert [OPEN.is_open(status) for status in ("Open", "Held")] == [True, False]
