"""From an audit log to its new entries."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.capture.records.audit import (
    MAX_REMEMBERED,
    WITHHELD,
    AuditDelta,
    digest_of,
    in_order,
    new_entries,
)
from worker.capture.records.fingerprint import RecordState
from worker.capture.records.privacy import policy_for
from worker.config.sections import PrivacySettings
from worker.ordermesh.http.reply import AuditEntry, entry_of


def entry(**fields: Any) -> AuditEntry:
    return entry_of(json.dumps(fields).encode())


def look(entries: list[AuditEntry], before: bytes = b"") -> AuditDelta | None:
    raw = b"".join(one.raw for one in entries)
    return new_entries("o1", raw, entries, before)


def bodies(found: AuditDelta | None) -> list[Any]:
    assert found is not None
    return [json.loads(one.published) for one in found.entries]


FIRST = entry(id="a", timestamp="2026-01-01T10:00:00Z")
SECOND = entry(id="b", timestamp="2026-01-01T11:00:00Z")
THIRD = entry(id="c", timestamp="2026-01-01T12:00:00Z")


def test_each_entry_once() -> None:
    """A log that grew gives what is new, counted on; one whose bytes are the same is not even taken apart."""
    found = look([FIRST, SECOND])
    assert found is not None
    assert [(one.version, one.time) for one in found.entries] == [(1, FIRST.time), (2, SECOND.time)]
    again = look([FIRST, SECOND, THIRD], found.after)
    assert again is not None
    assert [(one.version, one.published) for one in again.entries] == [(3, THIRD.raw)]
    assert look([FIRST, SECOND, THIRD], again.after) is None


def test_the_time_of_an_entry_is_rfc3339() -> None:
    """Whatever form the server writes; one that is no time, or stands for null, leaves the time of the reading."""
    served = ["2026-01-01T10:00:00+0200", "yesterday", "0001-01-01T00:00:00"]
    found = look([entry(id=str(at), timestamp=text) for at, text in enumerate(served)])
    assert found is not None
    assert [one.time for one in found.entries] == ["2026-01-01T10:00:00+02:00", "", ""]


def test_in_the_order_of_their_times() -> None:
    """Also where the server gives the newest first; with equal times its order counts, whichever way it runs."""
    assert in_order([THIRD, SECOND, FIRST]) == [FIRST, SECOND, THIRD]
    same = [entry(id=str(at), timestamp="2026-01-01T12:00:00Z") for at in range(3)]
    assert in_order([*reversed(same), FIRST]) == [FIRST, *same]
    assert in_order([FIRST, *same]) == [FIRST, *same]
    untimed = [entry(id="x"), FIRST]
    assert in_order(untimed) == untimed


def test_an_entry_without_id_is_known_by_its_content() -> None:
    """The order of its keys does not count; an id counts where there is one, whatever else changes."""
    one, other = (
        entry_of(b'{"what": "held", "who": {"a": 1, "b": 2}}'),
        entry_of(b'{"who":{"b":2,"a":1},"what":"held"}'),
    )
    assert digest_of(one) == digest_of(other)
    assert digest_of(entry(id="a", note="x")) == digest_of(entry(note="y", id="a"))
    assert digest_of(entry(what="held")) != digest_of(entry(what="released"))
    assert bodies(look([one, other])) == [json.loads(one.raw)]


def test_what_the_server_forgets_is_not_published_again() -> None:
    """A server may keep the last entries only, and show older ones again another day."""
    whole = look([FIRST, SECOND])
    assert whole is not None
    fewer = look([SECOND], whole.after)
    assert fewer is not None
    assert fewer.entries == ()
    back = look([FIRST, SECOND, THIRD], fewer.after)
    assert bodies(back) == [json.loads(THIRD.raw)]


def test_entries_that_are_no_objects() -> None:
    """Texts are entries too; under a policy of which nothing can be applied to them, no word of them is published."""
    texts = [entry_of(b'"Mrs Example has called"'), entry_of(b"17")]
    assert bodies(look(texts)) == ["Mrs Example has called", 17]
    policy = policy_for("order_audit", PrivacySettings(policy="minimal"), "default")
    found = new_entries("o1", b"x", texts, b"", policy)
    assert found is not None
    assert {one.published for one in found.entries} == {WITHHELD}


def test_the_minimal_policy_lets_no_value_through() -> None:
    """What is known of no entry is kept back, but for what tells it apart, when it was, and what was done."""
    policy = policy_for("order_audit", PrivacySettings(policy="minimal"), "default")
    one = entry(
        id="a", timestamp="2026-01-01T10:00:00Z", action="Updated", user="jane@example.com",
        changes=[{"property": "shippingAddress.line1", "oldValue": "1 Main St", "newValue": "2 Main St"}],
    )  # fmt: skip
    found = new_entries("o1", b"x", [one], b"", policy)
    assert bodies(found) == [{"id": "a", "timestamp": "2026-01-01T10:00:00Z", "action": "Updated"}]
    chosen = PrivacySettings(policy="minimal", fields={"order_audit": {"changes.property": "keep"}})
    found = new_entries("o1", b"x", [one], b"", policy_for("order_audit", chosen, "default"))
    assert bodies(found)[0]["changes"] == [{"property": "shippingAddress.line1"}]


def test_a_long_log_is_told_once() -> None:
    """Whatever its length: what the server still shows is remembered, and not published again with each new entry."""
    entries = [
        entry(id=str(at), timestamp=f"2026-01-01T10:00:{at % 60:02}Z") for at in range(MAX_REMEMBERED + 50)
    ]
    found = look(entries)
    assert found is not None
    assert RecordState.unpack(found.after).version == len(entries)
    more = look([*entries, entry(id="new", timestamp="2026-01-02T10:00:00Z")], found.after)
    assert [one["id"] for one in bodies(more)] == ["new"]


def test_a_log_is_remembered_up_to_a_limit() -> None:
    """Of what the server does not show any more, the oldest is forgotten: it does not grow without end."""
    entries = [entry(id=str(at)) for at in range(MAX_REMEMBERED + 50)]
    whole = look(entries)
    assert whole is not None
    rest = look(entries[-10:], whole.after)
    assert rest is not None
    assert len(RecordState.unpack(rest.after).fields) == MAX_REMEMBERED * 8
    again = look(entries[-11:], rest.after)
    assert bodies(again) == []


def test_a_state_of_another_hand_is_none() -> None:
    """Fingerprints that do not fit into it would shift all that follow: the log is told anew, and then once."""
    for before in (b"nonsense", RecordState(b"\1" * 8, 0, 0, 3, b"\2" * 6, position=7).pack()):
        found = look([FIRST, SECOND], before)
        assert found is not None
        assert len(found.entries) == 2
        again = look([FIRST, SECOND, THIRD], found.after)
        assert bodies(again) == [json.loads(THIRD.raw)]


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(0, 1000))
def test_any_way_of_growing(ids: list[int], seed: int) -> None:
    """However a log grows and is shuffled, each entry is published once, with versions from 1 without a gap."""
    rng, before, told = Random(seed), b"", []
    log: list[AuditEntry] = []
    for one in ids:
        log.append(entry(id=str(one)))
        rng.shuffle(log)
        found = look(log, before)
        if found is None:
            continue
        before = found.after
        told += [(new.version, json.loads(new.published)["id"]) for new in found.entries]
    assert [version for version, _ in told] == list(range(1, len(told) + 1))
    assert sorted(each for _, each in told) == sorted({str(each) for each in ids})
