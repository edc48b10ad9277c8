"""From records to changes: what is published, ignored, remembered, parked."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from worker.capture.records.actions import Action
from worker.capture.records.decoding import decode, newest_of_each
from worker.capture.records.diff import Change, decide
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import RecordState, pack_id
from worker.capture.records.raw_records import RawRecord, observe
from worker.capture.resources import Resource
from worker.clock import parse_time

THINGS = Resource(name="things", entity="thing", search="things.search")
EARLY, LATE = "2026-01-01T10:00:00.1234567Z", "2026-01-02T10:00:00.1234567Z"


def raw(record: Any) -> msgspec.Raw:
    return msgspec.Raw(record if isinstance(record, bytes) else json.dumps(record).encode())


def seen(record: Any) -> RawRecord:
    (observed,) = observe(THINGS, [raw(record)])
    return observed


def step(
    record: Any,
    before: bytes = b"",
    *,
    names: FieldIndex,
    baseline: bool = True,
    ignored: frozenset[str] = frozenset(),
    force: bool = False,
    older: bool = False,
) -> Change:
    """One record against what is kept of it."""
    decoded = decode(THINGS, seen(record), before, ignored)
    if decoded.content:
        names.update([*names._names, *names.unknown(decoded.content.names)])
    return decide(decoded, names, baseline=baseline, force=force, older=older)


@pytest.fixture
def names() -> FieldIndex:
    return FieldIndex()


def test_new_record_is_snapshot_or_created(names: FieldIndex) -> None:
    """Before the first complete read it is a snapshot, afterwards created."""
    assert step({"id": "a"}, names=names, baseline=False).action is Action.SNAPSHOT
    change = step({"id": "a"}, names=names)
    assert (change.action, change.version, change.changed) == (Action.CREATED, 1, ())


@pytest.mark.parametrize(
    ("created", "baseline", "action"),
    [
        (EARLY, True, Action.SNAPSHOT), (EARLY, False, Action.SNAPSHOT),
        (LATE, True, Action.CREATED), (LATE, False, Action.CREATED),
        (None, True, Action.CREATED), (None, False, Action.SNAPSHOT),
        ("soon", True, Action.CREATED), ("soon", False, Action.SNAPSHOT),
    ],
)  # fmt: skip
def test_a_record_that_is_older_than_the_first_scan_is_a_snapshot(
    names: FieldIndex, created: str | None, baseline: bool, action: Action
) -> None:
    """Whenever it is found; its creation time says so, and where it has none, whether every record was seen."""
    decoded = decode(THINGS, seen({"id": "a", "createdAt": created, "updatedAt": LATE}), b"", frozenset())
    assert decoded.content is not None
    names.update(names.unknown(decoded.content.names))
    first_scan_at = parse_time("2026-01-02T00:00:00Z") or 0
    assert decide(decoded, names, baseline=baseline, first_scan_at=first_scan_at).action is action


@pytest.mark.parametrize("updated", [None, "", 0, "0001-01-01T00:00:00Z", "soon", LATE])
def test_the_creation_time_does_not_depend_on_the_modification_time(updated: object) -> None:
    """It is read from its own field, whatever the other one has; a record without it has none."""
    both = decode(THINGS, seen({"id": "a", "createdAt": EARLY, "updatedAt": updated}), b"", frozenset())
    assert both.created == parse_time(EARLY)
    without = decode(THINGS, seen({"id": "a", "updatedAt": updated}), b"", frozenset())
    assert without.created == 0


def test_contents_are_read_along_with_the_ids() -> None:
    """A record that cannot be read does not affect the others, and nothing depends on the way of reading."""
    texts = [b'{"v":1,"id":"a"}', b'{"v":1e400,"id":"b"}', b'{"id":7}', b"[]", b'{"v":1}', b'{"id":""}']
    for count in range(len(texts) + 1):
        records = [msgspec.Raw(text) for text in texts[:count]]
        apart, along = observe(THINGS, records), observe(THINGS, records, contents=True)
        assert [msgspec.structs.replace(one, content=None) for one in along] == apart
        pairs = zip(apart, along, strict=True)
        assert all(
            decode(THINGS, one, b"", frozenset()).content == decode(THINGS, other, b"", frozenset()).content
            for one, other in pairs
        )


def test_there_and_back_is_two_updates(names: FieldIndex) -> None:
    """A-B-A gives versions 1, 2, 3: a state that comes back is a change."""
    first = step({"id": "a", "v": 1}, names=names)
    second = step({"id": "a", "v": 2}, first.after, names=names)
    third = step({"id": "a", "v": 1}, second.after, names=names)
    assert [each.version for each in (first, second, third)] == [1, 2, 3]
    assert (third.action, third.changed, third.content) == (Action.UPDATED, ("v",), first.content)


def test_noise_is_remembered_not_published(names: FieldIndex) -> None:
    """Other bytes with the same content keep the version and remember the bytes."""
    first = step({"id": "a", "v": [1, 2]}, names=names)
    noise = step(b'{"v":[1,2],"id":"a"}', first.after, names=names)
    assert (noise.action, noise.version) == (Action.NOISE, 1)
    assert RecordState.unpack(noise.after).raw == seen(b'{"v":[1,2],"id":"a"}').raw


def test_older_than_held_is_stale(names: FieldIndex) -> None:
    """What was modified before the version that is held has to be confirmed; at the same moment it counts."""
    held = step({"id": "a", "v": 2, "updatedAt": LATE}, names=names).after
    older = {"id": "a", "v": 1, "updatedAt": EARLY}
    assert step(older, held, names=names).action is Action.STALE
    assert step({"id": "a", "v": 3, "updatedAt": LATE}, held, names=names).action is Action.UPDATED
    for force in (False, True):
        change = step(older, held, names=names, force=force, older=not force)
        assert (change.action, change.version, change.changed) == (Action.UPDATED, 2, ("v", "updatedAt"))
        assert RecordState.unpack(change.after).modified == change.modified > 0


def test_older_with_the_same_content_is_noise(names: FieldIndex) -> None:
    """Content decides: where the time alone has gone back, and is ignored, nothing has to be confirmed."""
    ignored = frozenset({"updatedAt"})
    held = step({"id": "a", "v": 2, "updatedAt": LATE}, names=names, ignored=ignored)
    noise = step({"id": "a", "v": 2, "updatedAt": EARLY}, held.after, names=names, ignored=ignored)
    assert (noise.action, RecordState.unpack(noise.after).modified) == (Action.NOISE, noise.modified)


def test_before_the_first_change_is_stale_after_it(names: FieldIndex) -> None:
    """A page from before the first change has no updatedAt: its createdAt makes it older."""
    first = step({"id": "a", "createdAt": EARLY, "updatedAt": None}, names=names)
    second = step({"id": "a", "createdAt": EARLY, "updatedAt": LATE}, first.after, names=names)
    assert second.action is Action.UPDATED
    again = step({"id": "a", "createdAt": EARLY, "updatedAt": None}, second.after, names=names)
    assert again.action is Action.STALE


@pytest.mark.parametrize("odd", ["yesterday", 5, 1767348000000, True, ["x"], {}, ""])
def test_odd_time_never_hides_a_change(names: FieldIndex, odd: object) -> None:
    """A modified time that cannot be read does not fall back to the creation, which would be stale for good."""
    held = step({"id": "a", "v": 1, "createdAt": EARLY, "updatedAt": LATE}, names=names).after
    change = step({"id": "a", "v": 2, "createdAt": EARLY, "updatedAt": odd}, held, names=names)
    assert (change.action, change.modified, change.time) == (Action.UPDATED, 0, "")


@pytest.mark.parametrize("unset", [None, "0001-01-01T00:00:00", "0001-01-01T00:00:00Z"])
def test_unset_time_falls_back(names: FieldIndex, unset: str | None) -> None:
    """A null, or the year 1 that stands for it, gives way to the creation."""
    change = step({"id": "a", "createdAt": EARLY, "updatedAt": unset}, names=names)
    assert (change.time, change.modified) == (EARLY, 1767261600123)


@pytest.mark.parametrize(
    ("served", "published"),
    [("2026-11-20T10:00:00+0200", "2026-11-20T10:00:00+02:00"), ("2026-11-20", "2026-11-20T00:00:00Z")],
)
def test_the_time_of_an_event_is_rfc3339(names: FieldIndex, served: str, published: str) -> None:
    """Whatever form the server writes: the schema of events says `date-time`."""
    assert step({"id": "a", "updatedAt": served}, names=names).time == published


def test_time_without_zone_is_utc(names: FieldIndex) -> None:
    """Shipment times carry no zone: UTC (docs/reference/api-facts.md, 1.4)."""
    assert (
        step({"id": "a", "updatedAt": "2026-01-01T10:00:00.1"}, names=names).time == "2026-01-01T10:00:00.1Z"
    )


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b'{"v":1}', "has no id"),
        (b'{"id":null}', "has no id"),
        (b'{"id":""}', "has no id"),
        (b"17", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b"[]", "Expected `object`"),
        (b'{"id":1.5}', "`float`"),
        (b'{"id":{}}', "`object`"),
        (b'{"id":"\xff"}', "utf-8"),
    ],
)
def test_without_id_is_unreadable(names: FieldIndex, record: bytes, reason: str) -> None:
    """It is parked with the reason, remembered by its bytes, and does not stand in the way of the others."""
    good, bad, other = observe(THINGS, [raw({"id": "a"}), raw(record), raw({"id": "b"})])
    assert (good.identifier, bad.identifier, other.identifier) == ("a", "", "b")
    change = step(record, names=names)
    assert change.action is Action.UNREADABLE
    assert reason in change.problem
    assert RecordState.unpack(change.after).raw == bad.raw


def test_number_as_id_is_its_text() -> None:
    """An id may be a number of any size."""
    assert seen({"id": 5}).key == seen({"id": "5"}).key
    assert seen({"id": 10**30}).identifier == str(10**30)


def test_unreadable_content_is_parked_once(names: FieldIndex) -> None:
    """A record with an id whose rest is no UTF-8 is parked with the reason, and known from then on."""
    bad = b'{"id":"a","v":"\xff"}'
    first = step(bad, names=names)
    assert (first.action, first.observed.identifier) == (Action.UNREADABLE, "a")
    assert "utf-8" in first.problem
    # It never looks unchanged, or it would be counted as a good one from the next read on.
    assert RecordState.unpack(first.after).raw != seen(bad).raw
    again = step(bad, first.after, names=names)
    assert (again.action, again.before) == (Action.PARKED, again.after)
    assert step(b'{"id":"a","v":"\xfe"}', first.after, names=names).action is Action.UNREADABLE


def test_readable_again_goes_on_where_it_was(names: FieldIndex) -> None:
    """After a spell of being unreadable it is compared with what was published last."""
    first = step({"id": "a", "v": 1}, names=names)
    parked = step(b'{"id":"a","v":"\xff"}', first.after, names=names)
    assert step({"id": "a", "v": 1}, parked.after, names=names).action is Action.NOISE
    updated = step({"id": "a", "v": 2}, parked.after, names=names)
    assert (updated.action, updated.version, updated.changed) == (Action.UPDATED, 2, ("v",))
    never = step(b'{"id":"b","v":"\xff"}', names=names)
    fresh = step({"id": "b", "v": 1}, never.after, names=names)
    assert (fresh.action, fresh.version) == (Action.CREATED, 1)


@pytest.mark.parametrize("foreign", [b"x", b"garbage garbage garb", bytes(18) + b"\xff" * 5])
def test_foreign_state_is_published_anew(names: FieldIndex, foreign: bytes) -> None:
    """Rather once more than never."""
    change = step({"id": "a"}, foreign, names=names)
    assert (change.action, change.before) == (Action.CREATED, foreign)


def test_ignored_field_is_noise(names: FieldIndex) -> None:
    """A change in an ignored field alone is not published; its time still counts."""
    ignored = frozenset({"updatedAt", "views"})
    first = step({"id": "a", "views": 1, "updatedAt": EARLY}, names=names, ignored=ignored)
    noise = step({"id": "a", "views": 2, "updatedAt": LATE}, first.after, names=names, ignored=ignored)
    assert (noise.action, noise.time) == (Action.NOISE, LATE)
    assert noise.modified > first.modified


def test_unnamed_change_names_all(names: FieldIndex) -> None:
    """A change that no field's fingerprint shows is published, naming every field."""
    first = step({"id": "a", "v": 1}, names=names)
    held = RecordState.unpack(first.after)
    odd = RecordState(bytes(8), held.content ^ 1, held.modified, held.version, held.fields).pack()
    change = step({"id": "a", "v": 1}, odd, names=names)
    assert (change.action, change.changed) == (Action.UPDATED, ("id", "v"))


def test_record_twice_in_a_page() -> None:
    """The newer one counts, whichever comes first; without times the last one."""
    early, late = {"id": "a", "updatedAt": EARLY}, {"id": "a", "updatedAt": LATE}
    for page in ([early, late], [late, early]):
        decoded = [decode(THINGS, seen(each), b"", frozenset()) for each in page]
        assert [each.time for each in newest_of_each(decoded).values()] == [LATE]
    untimed = [decode(THINGS, seen({"id": "a", "v": v}), b"", frozenset()) for v in (1, 2)]
    assert list(newest_of_each(untimed).values()) == untimed[1:]


def test_fields_that_nobody_knows_pass(names: FieldIndex) -> None:
    """New fields, new statuses and nulls are content like any other."""
    first = step({"id": "a", "status": "Open"}, names=names)
    second = step({"id": "a", "status": "Quantum", "new": {"x": None}}, first.after, names=names)
    third = step({"id": "a", "status": None, "new": {"x": None}}, second.after, names=names)
    assert (second.changed, third.changed) == (("status", "new"), ("status",))


def test_observe_packs_ids() -> None:
    """The key is the packed id."""
    assert seen({"id": "65e0aa7be9ab8ac8a2e3b9a1"}).key == pack_id("65e0aa7be9ab8ac8a2e3b9a1")
