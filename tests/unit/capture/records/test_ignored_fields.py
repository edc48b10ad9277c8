"""Fields that are ignored, and no longer: what is published then, and what is not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.capture.records.actions import PUBLISHED, Action
from worker.capture.records.decoding import decode
from worker.capture.records.diff import Change, decide
from worker.capture.records.fields import MAX_FIELDS, FieldIndex
from worker.capture.records.fingerprint import (
    IGNORED,
    ContentHashes,
    RecordState,
    raw_fingerprint,
    read_content,
)
from worker.capture.records.raw_records import observe
from worker.capture.records.scope import EVERYTHING, RecordScope, scope_of
from worker.capture.registry import ORDERS

OPEN = scope_of(ORDERS, merchants=(), statuses=("Open",), final=())


def raw(record: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(json.dumps({"id": "o1"} | record).encode())


class Life:
    """One record, read again and again under settings that change."""

    def __init__(self) -> None:
        self.names, self.state = FieldIndex(), b""

    def read(
        self, record: dict[str, Any], *ignored: str, scope: RecordScope = EVERYTHING, force: bool = False
    ) -> Change | None:
        """What becomes of the record; None if its bytes are the ones that are known."""
        (observed,) = observe(ORDERS, [raw(record)], scope, ignored=frozenset(ignored))
        if not force and self.state and RecordState.unpack(self.state).raw == observed.raw:
            return None
        decoded = decode(ORDERS, observed, self.state, frozenset(ignored), scope=scope)
        assert decoded.content is not None
        self.names.update([*self.names._names, *self.names.unknown(decoded.content.names)])
        change = decide(decoded, self.names, baseline=True, force=force)
        self.state = change.after
        return change

    def reads(self, record: dict[str, Any], *ignored: str, **how: Any) -> tuple[str, tuple[str, ...]]:
        """The action for the record, `-` for none, and the names of the fields that changed."""
        change = self.read(record, *ignored, **how)
        return ("-", ()) if change is None else (change.action.value, change.changed)

    def write_as_before(self, record: dict[str, Any], *ignored: str) -> None:
        """Let the state be one of a version that kept no fingerprints of ignored fields, and no other salt."""
        content = read_content(raw(record), frozenset())
        kept = [at for at, name in enumerate(content.names) if name not in ignored]
        visible = ContentHashes(
            tuple(content.names[at] for at in kept),
            b"".join(content.hashes[8 * at : 8 * at + 8] for at in kept),
        )
        self.names.update([*self.names._names, *self.names.unknown(visible.names)])
        prints = self.names.place(visible)
        self.state = RecordState(raw_fingerprint(raw(record)), prints.content, 0, 1, prints.fields).pack()


def test_a_field_that_is_no_longer_ignored_is_published_once() -> None:
    """It changed in silence, and consumers do not have it."""
    life = Life()
    assert life.reads({"a": 1, "b": 1}, "a") == ("created", ())
    assert life.reads({"a": 2, "b": 1}, "a") == ("noise", ())
    assert life.reads({"a": 2, "b": 1}, "a") == ("-", ())
    assert life.reads({"a": 2, "b": 1}) == ("updated", ("a",))
    assert life.reads({"a": 2, "b": 1}) == ("-", ())


def test_a_field_that_did_not_change_is_not_published() -> None:
    """Nor is one that changed there and back, or one that was published with another change."""
    life = Life()
    life.read({"a": 1, "b": 1}, "a")
    assert life.reads({"a": 1, "b": 1}) == ("noise", ())
    life.read({"a": 2, "b": 1}, "a")
    life.read({"a": 1, "b": 1}, "a")
    assert life.reads({"a": 1, "b": 1}) == ("noise", ())
    assert life.reads({"a": 3, "b": 2}, "a") == ("updated", ("b",))
    assert life.reads({"a": 3, "b": 2}) == ("noise", ())


def test_a_field_that_came_or_went_while_it_was_ignored() -> None:
    """A missing field is a value like any other."""
    life = Life()
    life.read({"b": 1}, "a")
    assert life.reads({"a": 1, "b": 1}, "a") == ("noise", ())
    assert life.reads({"a": 1, "b": 1}) == ("updated", ("a",))
    assert life.reads({"b": 1}, "a") == ("noise", ())
    assert life.reads({"b": 1}) == ("updated", ("a",))


def test_a_field_that_is_newly_ignored() -> None:
    """Nothing is published because of the setting; what changed last is published before it is no change any more."""
    life = Life()
    life.read({"a": 1, "b": 1})
    assert life.reads({"a": 1, "b": 1}, "a") == ("noise", ())
    assert life.reads({"a": 2, "b": 1}, "a") == ("noise", ())
    assert life.reads({"a": 2, "b": 1}, "b") == ("updated", ("a",))
    assert life.reads({"a": 2, "b": 1}, "a", "b") == ("noise", ())


def test_a_change_beside_that_of_the_setting() -> None:
    """It is published with its own name, and not with the names of all fields."""
    life = Life()
    life.read({"a": 1, "b": 1, "c": 1}, "a")
    life.read({"a": 2, "b": 1, "c": 1}, "a")
    assert life.reads({"a": 2, "b": 2, "c": 1}, "b") == ("updated", ("a",))
    assert life.reads({"a": 2, "b": 2, "c": 2}, "a") == ("updated", ("c",))


def test_a_forced_event_names_what_changed() -> None:
    """Not every field, because other fields were ignored before."""
    life = Life()
    life.read({"a": 1, "b": 1}, "a")
    assert life.reads({"a": 1, "b": 1}, force=True) == ("updated", ())
    assert life.reads({"a": 2, "b": 1}, "a", force=True) == ("updated", ())
    assert life.reads({"a": 2, "b": 1}) == ("noise", ())


def test_states_of_the_version_before() -> None:
    """They say nothing of ignored fields: the first showing is the base, and nothing is published."""
    life = Life()
    life.write_as_before({"a": 1, "b": 1}, "a")
    assert life.reads({"a": 1, "b": 1}, "a") == ("noise", ())
    assert life.reads({"a": 1, "b": 1}) == ("noise", ())
    life.write_as_before({"a": 1, "b": 1}, "a")
    assert life.reads({"a": 1, "b": 1}, "a") == ("noise", ())
    assert life.reads({"a": 2, "b": 1}, "a") == ("noise", ())
    assert life.reads({"a": 2, "b": 1}) == ("updated", ("a",))


def test_other_fields_are_ignored_from_the_new_version_on() -> None:
    """Records that did not change since are not published, whatever was ignored before."""
    for ignored in ((), ("a",), ("b",), ("a", "c")):
        life = Life()
        life.write_as_before({"a": 1, "b": 1, "c": 1}, "a", "b")
        assert life.reads({"a": 1, "b": 1, "c": 1}, *ignored) == (("noise" if ignored else "-"), ())
        assert life.reads({"a": 1, "b": 1, "c": 2}, *ignored)[0] == ("noise" if "c" in ignored else "updated")


def test_a_record_that_was_outside_the_scope() -> None:
    """Its state has no fields. What is not known to be published is published when it is no longer ignored."""
    life = Life()
    life.read({"status": "Open", "a": 1}, "a", scope=OPEN)
    assert life.reads({"status": "Sent", "a": 1}, "a", scope=OPEN) == ("updated", ("status",))
    assert life.reads({"status": "Sent", "a": 2}, "a", scope=OPEN) == ("outside", ())
    assert life.reads({"status": "Sent", "a": 2}, "a") == ("noise", ())
    assert life.reads({"status": "Sent", "a": 2}) == ("updated", ("a",))
    assert life.reads({"status": "Sent", "a": 2}) == ("-", ())


def test_what_an_ignored_field_takes() -> None:
    """Two bytes for each, and two for all of them; nothing where none is ignored."""
    sizes = []
    for ignored in ((), ("a",), ("a", "b")):
        life = Life()
        life.read({"a": 1, "b": 1}, *ignored)
        sizes.append(len(life.state))
    assert sizes == [sizes[0], sizes[0] + 2, sizes[0] + 2]
    assert IGNORED not in life.names.held(RecordState.unpack(life.state).fields)


def test_when_no_place_is_left() -> None:
    """Without a place for what is ignored, or for a field, a record is rather published once more than never."""
    life = Life()
    life.names = FieldIndex([f"f{number}" for number in range(MAX_FIELDS)])
    life.read({"a": 1, "b": 1}, "a")
    assert life.reads({"a": 2, "b": 1}, "a") == ("noise", ())
    action, changed = life.reads({"a": 2, "b": 1})
    assert (action, set(changed)) == ("updated", {"id", "a", "b"})
    assert life.reads({"a": 2, "b": 1}) == ("-", ())


VALUES = st.integers(0, 2)
RECORDS = st.fixed_dictionaries({"a": VALUES, "b": VALUES}, optional={"c": VALUES})
SETTINGS = st.frozensets(st.sampled_from("abc"))


@settings(max_examples=400)
@given(st.lists(st.tuples(RECORDS, SETTINGS), min_size=1, max_size=12))
def test_exactly_what_consumers_lack_is_published(steps: list[tuple[dict[str, int], frozenset[str]]]) -> None:
    """Whatever changes when: an event for each difference that is not ignored, with its names, and no other."""
    life, told = Life(), dict[str, int]()
    for at, (record, ignored) in enumerate(steps):
        lacking = {name for name in "abc" if record.get(name) != told.get(name)} - ignored
        change = life.read(record, *ignored)
        published = change is not None and change.action in PUBLISHED
        assert published == (at == 0 or bool(lacking))
        if change is not None and published:
            assert set(change.changed) == (lacking if at else set())
            assert change.action is (Action.UPDATED if at else Action.CREATED)
            told = record
        assert life.read(record, *ignored) is None
