"""The arguments of `commit.lua`: flat lists in msgpack, and the data of each event by itself. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgpack
import msgspec

from worker.capture.records.actions import PUBLISHED, Action
from worker.capture.records.events import EventBuilder
from worker.capture.records.fingerprint import bucket_of, link_of, pack_id, unpack_id
from worker.capture.records.payload import EncodedRecord
from worker.capture.state import refresh_queue as due
from worker.capture.state.commit import Packed
from worker.capture.state.stale_records import StaleMark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capture.records.diff import Change
    from worker.capture.records.events import Event
    from worker.capture.records.payload import PayloadOptions
    from worker.capture.resources import FollowUp
    from worker.capture.state.commit import Commit

# Lua scripts read the older msgpack format (cmsgpack), which has no separate type for bytes.
packb = partial(msgpack.packb, use_bin_type=False)


@dataclass(slots=True)
class _Lists:
    changes: list[object] = field(default_factory=list)
    events: list[object] = field(default_factory=list)
    data: list[bytes | memoryview] = field(default_factory=list)
    dead: list[list[object]] = field(default_factory=list)

    def add(self, event: Event, data: bytes | memoryview) -> None:
        self.events += event
        self.data.append(data)


class _Beside(NamedTuple):
    """What a commit writes of a change beside its state, where that is not the usual: see `ARGV[2]` of `commit.lua`."""

    events: int
    grows: int
    last: bytes | str | bool = False
    nested: bytes | str | bool = False
    stale: str | bool = False
    due: str | bool = False


class CommitPacker:
    """Packs the commits of one resource or audit log. `entity` is part of its event types."""

    def __init__(self, entity: str, payload: PayloadOptions, follow_ups: Sequence[FollowUp]) -> None:
        self._payload, self._follow_ups = payload, follow_ups
        self._has_nested = any(item.is_within for item in follow_ups)
        self._is_plain = payload.compress_above is None and not payload.previous and not self._has_nested
        self._entries = EventBuilder(entity, payload)
        self.traceparent = self._entries.traceparent

    def pack(self, commit: Commit, lasts: Mapping[bytes, bytes]) -> Packed:
        """Return what a commit writes of records. `lasts`: the kept records that it replaces, by key."""
        lists, buckets, at = _Lists(), commit.buckets, commit.observed_at
        entries, event_of, data_of = lists.changes, self._entries.event, self._entries.published
        lists.dead += [self._entries.dead_letter(letter, at, commit.where) for letter in commit.letters]
        for change in commit.changes:
            key, before, after = change.observed.key, change.before, change.after
            beside: _Beside | bool = False
            if change.action in PUBLISHED:
                if self._is_plain and change.grows == (not before):
                    lists.events += event_of(change, at)
                    lists.data.append(data_of(change))
                else:
                    beside = self._publish(change, at, lasts.get(key), lists)
            else:
                after, beside = _linked(before, after), self._remember(change, commit, lists)
            entries += (str(bucket_of(key, buckets)), key, before, after, beside)
        for log in commit.recorded:
            events = self._entries.recorded(log, at)
            for event, data in events:
                lists.add(event, data)
            after = log.after if events else _linked(log.before, log.after)
            beside = _Beside(len(events), int(not log.before))
            entries += (str(bucket_of(log.key, buckets)), log.key, log.before, after, beside)
        for one in commit.erased:
            if one.version:
                lists.add(*self._entries.erased(one, at))
            published = int(one.version > 0)
            after = one.after if published else _linked(one.before, one.after)
            beside = _Beside(published, one.grows, last="", nested="")
            entries += (str(bucket_of(one.key, buckets)), one.key, one.before, after, beside)
        return Packed(packb(entries), packb(lists.events), lists.data, lists.dead)

    def _publish(self, change: Change, observed_at: float, last: bytes | None, lists: _Lists) -> _Beside:
        """Add the event of a change that is not the usual; return what is written beside its state."""
        body = EncodedRecord(self._entries.published(change))
        data, optional = self._entries.encoded(body, last, change.changed)
        lists.add(self._entries.event(change, observed_at, optional), data)
        nested = _pack_within(due.within(self._follow_ups, change.linked)) if self._has_nested else False
        return _Beside(1, change.grows, self._kept(change, body), nested)

    def _remember(self, change: Change, commit: Commit, lists: _Lists) -> _Beside:
        """Return what is written of a change without an event."""
        beside = _Beside(0, change.grows)
        if change.action is Action.SILENT:
            return beside._replace(last=self._kept(change, EncodedRecord(self._entries.published(change))))
        if change.action is Action.UNREADABLE:
            lists.dead.append(self._entries.dead_letter(change, commit.observed_at, commit.where))
        elif change.action is Action.STALE:
            mark = StaleMark.of(change.observed.raw, commit.refresh.scan)
            return beside._replace(stale=mark, due=due.record(change.observed.identifier))
        return beside

    def _kept(self, change: Change, body: EncodedRecord) -> bytes | bool:
        """Return the record to keep for the old values of the next change; False if none are wanted."""
        return body.kept(change.version, self._payload.tag) if self._payload.previous else False


def _linked(before: bytes, after: bytes) -> bytes:
    """Return the state after a change that publishes nothing: its last event is the one before."""
    return after if after == before else after + link_of(before)


def _pack_within(ids: Sequence[Sequence[str]]) -> bytes:
    """Return the nested ids of a record in the form that is stored; b"" if there are none."""
    return msgspec.msgpack.encode([[pack_id(item) for item in group] for group in ids]) if any(ids) else b""


def unpack_within(packed: bytes) -> list[list[str]]:
    """Return the ids that `_pack_within` packed; an empty list if this program did not write them."""
    try:
        result = msgspec.msgpack.decode(packed, type=list[list[bytes]])
    except msgspec.DecodeError:
        return []
    return [[name for item in group if item and (name := unpack_id(item))] for group in result]
