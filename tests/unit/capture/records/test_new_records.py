"""Records are decoded and decided about at once as they are one by one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from worker.capture.records.decoding import decode
from worker.capture.records.diff import decide
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import RecordState, pack_id, pack_ids
from worker.capture.records.new_records import decide_all, decode_new
from worker.capture.records.privacy import RecordPolicy
from worker.capture.records.raw_records import RawRecord, fingerprints, observe
from worker.capture.records.rules import Rule
from worker.capture.records.scope import EVERYTHING, RecordScope
from worker.capture.registry import ORDERS

HEX = "0123456789abcdef"
IDS = st.text(HEX, min_size=24, max_size=24)
ODD_IDS = st.text(f"{HEX}Ff -", max_size=24) | st.sampled_from(
    ["A" * 24, "f" * 24, "é" * 24, " " * 24, "0" * 36, "65e0aa7b-e9ab-8ac8-a2e3-b9a100000000"]
)
TIMES = st.none() | st.sampled_from(
    ["2026-01-02T03:04:05Z", "2026-01-01T00:00:00.5+02:00", "2026-03-01", "0001-01-01T00:00:00Z", "soon", 12]
)
RECORDS = st.fixed_dictionaries(
    {"id": IDS},
    optional={"updatedAt": TIMES, "createdAt": TIMES, "total": st.integers(0, 2), "merchantId": IDS},
).map(json.dumps)
ODD_RECORDS = st.sampled_from(
    ['{"id":7}', '{"id":""}', "{}", "[]", "1", '{"id":"a","b":}', '{"id":"a","a":1e999}']
)
PAGES = st.lists(RECORDS | ODD_RECORDS, min_size=1, max_size=6)
SCOPES = st.sampled_from([EVERYTHING, RecordScope("merchantId", None, frozenset({"0" * 24, "1" * 24}))])
POLICIES = st.sampled_from([None, RecordPolicy({"total": Rule.DROP})])
IGNORED = st.sampled_from([frozenset[str](), frozenset({"total"})])


@given(st.lists(IDS, max_size=5) | st.lists(IDS | ODD_IDS, max_size=5))
def test_ids_are_packed_at_once_as_one_by_one(identifiers: list[str]) -> None:
    """Also if one of them is no id of 24 hex digits."""
    assert pack_ids(identifiers) == [pack_id(one) for one in identifiers]


@given(PAGES, SCOPES, POLICIES, IGNORED, st.booleans())
def test_new_records_are_decoded_at_once_as_one_by_one(
    page: list[str],
    scope: RecordScope,
    policy: RecordPolicy | None,
    ignored: frozenset[str],
    contents: bool,
) -> None:
    """Readable or not, under a policy or not, in the scope or not; with fingerprints that are there already as well."""
    served = [msgspec.Raw(text.encode()) for text in page]
    raws = fingerprints(served, scope, ignored)
    observed = observe(ORDERS, served, scope, ignored=ignored, contents=contents, raws=raws)
    assert observed == observe(ORDERS, served, scope, ignored=ignored, contents=contents)
    one_by_one = [decode(ORDERS, one, b"", ignored, policy, scope=scope) for one in observed]
    assert decode_new(ORDERS, observed, ignored, policy, scope) == one_by_one


@given(
    PAGES,
    SCOPES,
    st.tuples(POLICIES, IGNORED),
    st.lists(
        st.tuples(st.sampled_from(["", "there", "gone", "unread"]), st.booleans()), min_size=6, max_size=6
    ),
    st.fixed_dictionaries(
        {
            "baseline": st.booleans(),
            "first_scan_at": st.sampled_from([0, 1_767_300_000_000, 1_800_000_000_000]),
            "generation": st.sampled_from([0, 300]),
        }
    ),
)
def test_changes_are_decided_at_once_as_one_by_one(
    page: list[str],
    scope: RecordScope,
    hides: tuple[RecordPolicy | None, frozenset[str]],
    states: list[tuple[str, bool]],
    given_: dict[str, Any],
) -> None:
    """Of new records, and of those with a state, which may be doubted."""
    policy, ignored = hides
    served = [msgspec.Raw(text.encode()) for text in page]
    observed = observe(ORDERS, served, scope, ignored=ignored)
    decoded = [
        decode(ORDERS, one, state_of(one, state), ignored, policy, scope=scope)
        for one, (state, _) in zip(observed, states, strict=False)
    ]
    names = sorted({name for one in decoded if one.content for name in one.content.names} - {"total"})
    fields = FieldIndex(names)
    doubted = {one.observed.key for one, (_, doubt) in zip(decoded, states, strict=False) if doubt}
    assert decide_all(decoded, fields, doubted=doubted, **given_) == [
        decide(one, fields, doubted=one.observed.key in doubted, **given_) for one in decoded
    ]


def state_of(record: RawRecord, state: str) -> bytes:
    """Return a state that a record may have."""
    return {
        "": b"",
        "there": RecordState(bytes(8), 5, 1_700_000_000_000, 2, b"ab", position=3).pack(),
        "gone": RecordState(record.raw, 0, 0, 2, b"", position=3).deleted().pack(),
        "unread": RecordState(record.raw, 0, 0, 0, b"", position=3).pack(),
    }[state]
