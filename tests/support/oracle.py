"""What consumers have been told of every kind of record, held against what was true, and when."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ordersync_consumer.envelope import Event
from tests.support.mutations import Happenings, Place, canonical
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import read_content
from worker.capture.registry import AUDIT_LOGS, RESOURCES


@dataclass(slots=True)
class Told:
    """What was told of one record: how often, up to which of its states, its content (None: deleted), all contents."""

    version: int = 0
    at: int = -1
    content: str | None = None
    contents: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Stream:
    """What a stream has held so far."""

    sequence: int = 0
    ids: set[str] = field(default_factory=set)
    told: dict[str, Told] = field(default_factory=lambda: defaultdict(Told))
    entries: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


class Ledger:
    """The states that every record has had, and what was told of them.

    Each event is the next one of its stream and of its record, and tells a state that the record has had since the
    one that was told before. The entries of an audit log are told once each. What is otherwise raises an
    AssertionError or, unless `strict`, is noted among the `problems` of the stream.
    """

    def __init__(self, happenings: Happenings, *, strict: bool = True) -> None:
        self._happenings, self.strict = happenings, strict
        self.problems: dict[str, list[str]] = defaultdict(list)
        self._states: dict[Place, list[str | None]] = defaultdict(list)
        self.streams: dict[str, Stream] = defaultdict(Stream)
        self.note(happenings.everything())

    def note(self, places: Iterable[Place]) -> None:
        """These records may have changed."""
        for place in places:
            raw = self._happenings.raw(place)
            state = None if raw is None else canonical(raw)
            states = self._states[place]
            if (states or [None])[-1] != state:
                states.append(state)

    @property
    def changes(self) -> dict[str, int]:
        """How many states the records of each kind have had."""
        counts = dict.fromkeys(RESOURCES, 0)
        for place, states in self._states.items():
            counts[place.kind] += len(states)
        return counts

    def take(self, name: str, events: Sequence[Event]) -> None:
        """Hold the next events of a stream against what was true."""
        stream = self.streams[name]
        for event in events:
            stream.sequence += 1
            try:
                self._take(name, stream, event)
            except AssertionError as error:
                if self.strict:
                    raise
                self.problems[name].append(str(error))

    def _take(self, name: str, stream: Stream, event: Event) -> None:
        assert event.sequence == stream.sequence, f"{name}: {event.sequence} behind {stream.sequence - 1}"
        assert event.id not in stream.ids, f"{name}: {event.id} twice"
        stream.ids.add(event.id)
        if name in AUDIT_LOGS:
            self._take_entry(name, stream, event)
        else:
            self._take_record(name, stream.told[event.subject], event)

    def _take_entry(self, name: str, stream: Stream, event: Event) -> None:
        entry = entry_id(json.loads(event.data))
        known = stream.entries[event.subject]
        assert event.action == "recorded"
        assert entry not in known, f"{name}: entry {entry} of {event.subject} twice"
        known.append(entry)
        assert event.version == len(known), f"{name}: version {event.version} of {event.subject}"

    def _take_record(self, name: str, told: Told, event: Event) -> None:
        where = f"{name} {event.subject} version {event.version} ({event.action}, {event.reason})"
        assert event.version == told.version + 1, f"{where} behind version {told.version}"
        states = self._states[Place(name, event.subject)]
        known = told.content is not None
        content = None if event.action == "deleted" else canonical(event.data)
        if content is None:
            assert known, f"{where}: it was not there"
            assert json.loads(event.data) == {"id": event.subject}
        else:
            assert (event.action == "updated") == known, where
        if content == told.content and known:
            assert event.reason == "resync", f"{where}: nothing new"
            assert event.changed == (), where
        else:
            try:
                told.at = states.index(content, told.at + 1)
            except ValueError:
                past = content in states
                raise AssertionError(f"{where}: {'an old state' if past else 'it never was so'}") from None
            if event.action == "updated":
                fields = named(told.content, content)
                assert set(event.changed) == fields, f"{where}: {sorted(event.changed)}, not {sorted(fields)}"
        told.version, told.content = event.version, content
        if content is not None:
            told.contents.append(content)

    def missing(self, kind: str) -> list[str]:
        """Records of a kind of which the last state was not told."""
        found = []
        for place in [each for each in self._states if each.kind == kind]:
            states, told = self._states[place], self.streams[kind].told.get(place.id, Told())
            if told.content != (states or [None])[-1]:
                found.append(f"{kind} {place.id}: told {told.at + 1} of {len(states)} states")
        return found

    def missing_entries(
        self, name: str, served: Mapping[str, Sequence[str]], lost: Collection[str]
    ) -> list[str]:
        """Logs of a stream that were not told as they are `served`, by subject.

        `lost`: those of which the record was never to be found from outside, such as a package that was taken out of
        its shipment before anybody had seen it there: what was told of it is the beginning of its log.
        """
        found = []
        for subject, entries in served.items():
            told = self.streams[name].entries.get(subject, [])
            # A log of before the start begins with an entry that goes with its record.
            behind = told[1:] if told[:1] and told[0] not in entries else told
            whole = entries[: len(behind)] if subject in lost else entries
            if (
                self._happenings.stepped
            ):  # entries are told in the order of their times, and those have gone back
                told_ones = [each for each in told if each in entries]
                behind, whole = sorted(told_ones), sorted(told_ones if subject in lost else entries)
            if behind != list(whole):
                found.append(f"{name} {subject}: told {told}, served {list(entries)}")
        return found

    def was_told(self, name: str, subject: str) -> bool:
        """Whether a record was ever told of."""
        return subject in self.streams[name].told

    def contents_of(self, name: str, subject: str) -> list[str]:
        """All that was told of a record, but that it is deleted."""
        return self.streams[name].told.get(subject, Told()).contents

    def ever(self, kind: str) -> list[str]:
        """The ids of all records of a kind that there have been."""
        return [place.id for place in self._states if place.kind == kind]

    def states_of(self, place: Place) -> list[str | None]:
        """The states that a record has had, None for its absence."""
        return self._states[place]


def entry_id(entry: Mapping[str, Any]) -> str:
    """The id of an audit entry, in either shape of them."""
    return str(entry.get("id") or entry["auditId"])


def differing(before: str | None, after: str | None) -> set[str]:
    """The top-level fields in which two records differ."""
    old, new = json.loads(before or "{}"), json.loads(after or "{}")
    missing = object()
    return {name for name in {*old, *new} if old.get(name, missing) != new.get(name, missing)}


def named(before: str | None, after: str | None) -> set[str]:
    """The fields that an update names: those in which the records differ, but for those whose fingerprints are equal.

    Fingerprints have 16 bits, so that of one changed field in 65,536 is the one that it had before. Times of records
    differ in each run, and a suite has thousands of updates: now and then such a field is among them. All fields are
    named if none is left.
    """
    fields = differing(before, after)
    return {each for each in fields if _mark(before, each) != _mark(after, each)} or set(
        json.loads(after or "{}")
    )


def _mark(record: str | None, name: str) -> int:
    """The fingerprint of one field; 0 of one that is not there."""
    content = {each: value for each, value in json.loads(record or "{}").items() if each == name}
    placed = FieldIndex([name]).place(read_content(json.dumps(content).encode(), frozenset()))
    return int.from_bytes(placed.fields, "little")
