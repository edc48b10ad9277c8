"""Publishes records that were read: look up, decode, decide, commit, and again if another run was faster.

Every reader publishes through this one loop: scans, reads by id, resyncs and reconciliation. So the same record leads
to the same event and to the same state, whoever reads it, and no event is published twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from worker.capture.records import audit
from worker.capture.records.actions import Action
from worker.capture.records.decoding import DecodedRecord, decode, newest_of_each
from worker.capture.records.diff import Change, decide, decide_deleted
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import RecordState
from worker.capture.records.new_records import decide_all, decode_new
from worker.capture.resources import AuditLog
from worker.capture.state.commit import Checkpoint
from worker.capture.state.store import StateStore
from worker.capture.written import Keep, Written, nothing_skipped, publish_all
from worker.clock import rfc3339
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any

    from worker.capture.records.raw_records import RawRecord
    from worker.capture.session import PollSession
    from worker.capture.state.commit import Packed
    from worker.capture.state.cursor import Cursor


AT_ONCE = 100
"""Records that are decoded before other tasks have their turn."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What becomes of a page, made ready before its turn under this cursor: its changes, and those to write, packed."""

    cursor: Cursor
    changes: Sequence[Change]
    packed: Packed


class RecordWriter:
    """Publishes the records of one source, under the lease of `session`.

    `is_scan`: the records are those that a list shows. The scan itself records which of them are open; of records
    that are read otherwise the writer does so. `scan`: when the full scan began that is under way and has seen what is
    looked up (seconds since 1970); 0 for none.
    """

    def __init__(self, session: PollSession, *, is_scan: bool = False, scan: float = 0.0) -> None:
        self._session, self._is_scan, self._scan = session, is_scan, scan
        self._fields: FieldIndex | None = None
        run = session.run
        self._log = get_logger(account=run.account, resource=run.resource, run_id=run.run_id)

    @property
    def fields(self) -> FieldIndex:
        """The field names that have a place. `keep` may use them."""
        return self._fields or FieldIndex()

    async def look_up(
        self, records: Sequence[RawRecord], *, unchanged: bool = False, are_new: bool = False
    ) -> list[DecodedRecord]:
        """Return the records whose bytes differ from what is known, decoded; if `unchanged`, the others as well.

        `are_new`: they are taken for new ones without a look, which the commit makes sure of.
        """
        session, options, decoded = self._session, self._session.options, list[DecodedRecord]()
        if session.buckets and not are_new:
            found = await session.store.differing(
                records, session.buckets, mark=self._scan > 0, every=unchanged
            )
            for i, state in found.items():
                if decoded and len(decoded) % AT_ONCE == 0:
                    await anyio.lowlevel.checkpoint()
                decoded.append(
                    decode(
                        options.resource,
                        records[i],
                        state,
                        options.ignored,
                        options.privacy,
                        scope=options.scope,
                    )
                )
        else:  # nothing is known of them yet
            for start in range(0, len(records), AT_ONCE):
                if start:
                    await anyio.lowlevel.checkpoint()
                decoded += decode_new(
                    options.resource,
                    records[start : start + AT_ONCE],
                    options.ignored,
                    options.privacy,
                    options.scope,
                )
        self._count_unknown()
        return decoded

    async def prepare(self, decoded: Sequence[DecodedRecord]) -> Prepared | None:
        """Decide about the records of a page of a first full scan before its turn, beside the commits of others.

        The commit finds out if their states have changed by then. None if something depends on the pages before: a name
        of a field that has no place yet, or a record that is older than what was published.
        """
        session, cursor = self._session, self._session.cursor
        if cursor.baseline or not decoded or not session.buckets:
            return None
        fields = await session.load_fields()
        if fields.unknown(_names_of(decoded)):
            return None
        written = await self._decide(decoded, publish_all)
        if written.of(Action.STALE):
            return None
        packed = session.pack(written.pending)
        return None if packed is None else Prepared(cursor, written.changes, packed)

    async def write(
        self,
        records: Sequence[RawRecord],
        *,
        where: str,
        checkpoint: Callable[[Written], Checkpoint | None],
        keep: Callable[[DecodedRecord], Keep] = publish_all,
        unchanged: bool = False,
        decoded: list[DecodedRecord] | None = None,
        prepared: Prepared | None = None,
        gone: Sequence[str] = (),
    ) -> Written:
        """Publish what has changed among `records`, and move on, in one commit.

        Args:
            records: What was read. Of a record that was read twice the newer one counts.
            where: Where they were read, for the dead letters.
            checkpoint: What the commit moves besides, given what it writes. It is asked again if the commit has to be
                repeated. None: nothing, so no commit is needed unless a record has changed.
            keep: What is to be done about each record that was looked up.
            unchanged: Look up unchanged records as well.
            decoded: The result of `look_up` for `records`, if it is there already.
            prepared: Likewise that of `prepare`.
            gone: Ids of records that are deleted for certain.

        Raises:
            LeaseLost: Another worker has taken over; nothing was written.

        """
        session, doubted = self._session, set[bytes]()
        states: dict[bytes, bytes] | None = None
        while True:
            if decoded is None:
                decoded = await self.look_up(records, unchanged=unchanged)
                if states is not None:  # one that was taken for new may have been published long before
                    doubted |= {
                        one.observed.key
                        for one in decoded
                        if states.get(one.observed.key) not in {b"", one.before}
                    }
            if prepared is not None and prepared.cursor is session.cursor:
                written, packed = Written(prepared.changes), prepared.packed
            else:
                written, packed = await self._decide(decoded, keep, doubted=doubted), None
            if deletions := await self._deletions(gone):
                written = Written([*written.changes, *deletions], written.skipped)
            moved, pending = checkpoint(written), written.pending
            if moved is None and not pending:
                return written
            if not self._is_scan:
                await session.open_records.record(pending, session.options.scope, session.cursor)
            if await session.commit(moved or Checkpoint(), changes=pending, where=where, packed=packed):
                self._log_went_back(written)
                return written
            # Another run has committed one of these records since it was looked up, perhaps a newer state.
            states = {one.observed.key: one.before for one in decoded}
            decoded, prepared = None, None

    async def preview(
        self, records: Sequence[RawRecord], *, keep: Callable[[DecodedRecord], Keep], unchanged: bool = False
    ) -> Written:
        """Return what `write` would do. Nothing is written."""
        return await self._decide(await self.look_up(records, unchanged=unchanged), keep, extend=False)

    async def write_logs(
        self, logs: Sequence[tuple[str, bytes, Sequence[Any]]], *, where: str, checkpoint: Checkpoint
    ) -> list[audit.AuditDelta]:
        """Publish the new entries of audit logs, and move on, in one commit; return what was published.

        `logs`: the subject of each, its bytes, and its entries.
        """
        session, privacy = self._session, self._session.options.privacy
        past = await self._past_of_logs()
        while True:
            deltas: list[audit.AuditDelta] = []
            for subject, raw, entries in logs:
                before = await session.store.state_of(subject, session.buckets)
                delta = audit.new_entries(
                    subject,
                    raw,
                    entries,
                    before,
                    privacy,
                    generation=session.cursor.generation,
                    past=past,
                    most=session.options.max_record_bytes,
                )
                deltas += [] if delta is None else [delta]
            self._count_unknown()
            if await session.commit(checkpoint, recorded=deltas, where=where):
                return deltas

    async def _past_of_logs(self) -> int:
        """Return the time before which entries of audit logs are not published (milliseconds since 1970; 0: none)."""
        session, source = self._session, self._session.source
        history = session.options.history
        if not history.silent or not isinstance(source, AuditLog):
            return history.since
        records = StateStore(session.context.redis, session.context.keys, source.parent)
        return history.before((await records.load_cursor()).first_scan_at)

    async def _decide(
        self,
        decoded: Sequence[DecodedRecord],
        keep: Callable[[DecodedRecord], Keep],
        *,
        extend: bool = True,
        doubted: Collection[bytes] = (),
    ) -> Written:
        """Return what becomes of these records. `doubted`: keys of those that were perhaps read before their states."""
        if not decoded:
            return Written()
        skipped = nothing_skipped()
        self._fields = await self._session.load_fields()
        listed, read, how = (decoded, [], {}) if keep is publish_all else _answered(decoded, keep, skipped)
        # A record that was read by its id counts, also where a list has shown it as well.
        kept = newest_of_each(listed) | newest_of_each(read)
        # Sorted, so that what is read first does not decide their places, and with them the ids of events.
        names = sorted(_names_of(kept.values()))
        fields = self._fields if extend else self._fields.extended(names)
        if extend:
            await self._session.store.extend_fields(fields, names)
        if extend and any(one.held is None for one in kept.values()):
            await self._session.check_states()
        cursor, history = self._session.cursor, self._session.options.history
        baseline = cursor.baseline and not cursor.reads_again and not cursor.lost_before
        known_since = max(cursor.first_scan_at, cursor.lost_before) if cursor.baseline else 0
        first_scan_at, generation = self._session.first_scan_at, cursor.generation
        # A record whose state is gone may have changed: it is published, though others of before are not.
        publishes_past = history.is_published or bool(cursor.lost_before)

        # Taken once: to get a member of an enum takes time, before Python 3.12.
        forced, accepted = Keep.FORCE, Keep.ACCEPT

        def decided(key: bytes, *, older: bool = False) -> Change:
            answer = how.get(key)
            change = decide(
                kept[key],
                fields,
                baseline=baseline,
                first_scan_at=known_since,
                force=answer is forced,
                older=older or (answer is accepted and key not in doubted),
                doubted=key in doubted,
                generation=generation,
            )
            if publishes_past or answer is forced:
                return change
            return history.without_event(change, first_scan_at)

        if how or not publishes_past:
            written = Written([decided(key) for key in kept], skipped)
        else:
            written = Written(
                decide_all(
                    kept.values(),
                    fields,
                    baseline=baseline,
                    first_scan_at=known_since,
                    doubted=doubted,
                    generation=generation,
                ),
                skipped,
            )
        stale = [one for one in written.of(Action.STALE) if one.observed.key not in doubted]
        confirmed = await self._confirmed(stale, how)
        if confirmed:
            changes = dict(zip(kept, written.changes, strict=True))
            changes |= {key: decided(key, older=True) for key in confirmed}
            written = Written([*changes.values()], skipped)
        return written

    async def _confirmed(self, stale: Sequence[Change], how: Mapping[bytes, Keep]) -> list[bytes]:
        """Return the keys of those stale records whose older state another read has shown before.

        A read by id confirms it in any case: the record is due for it because it was shown so. A full scan confirms
        the bytes that it has not shown itself before.
        """
        observed = [change.observed for change in stale]
        marks = await self._session.store.stale_marks([one.key for one in observed])
        return [
            one.key
            for one in observed
            if (mark := marks.get(one.key)) is not None
            and (how.get(one.key) is Keep.CONFIRM or mark.is_confirmed_by(one.raw, self._scan))
        ]

    def _count_unknown(self) -> None:
        """Count the fields that the privacy policy has removed because they are not known, and log each name once."""
        policy = self._session.options.privacy
        if policy is None:
            return
        unknown = policy.unknown_fields()
        self._session.run.withheld += unknown.values
        if unknown.paths:
            self._log.warning(
                "fields_withheld", fields=list(unknown.paths),
                advice="No schema of OrderMesh that this version knows contains these fields, so the policy `minimal` "
                "does not publish them. To publish one, set it to keep in ORDERSYNC_PRIVACY__FIELDS.",
            )  # fmt: skip

    def _log_went_back(self, written: Written) -> None:
        """Log which records were published with an older time than before: one line for a commit."""
        back = [
            (change, before)
            for change in written.of(Action.UPDATED)
            if 0 < change.modified < (before := _modified(change.before))
        ]
        if back:
            first, before = back[0]
            self._log.warning(
                "record_went_back", subject=first.observed.identifier, records=len(back),
                changed_at=rfc3339(first.modified / 1000), previous_at=rfc3339(before / 1000),
            )  # fmt: skip

    async def _deletions(self, gone: Sequence[str]) -> list[Change]:
        session, changes = self._session, list[Change]()
        for identifier in gone:
            before = await session.store.state_of(identifier, session.buckets)
            generation = session.cursor.generation
            change = decide_deleted(session.options.resource, identifier, before, generation)
            changes += [] if change is None else [change]
        return changes


def _answered(
    decoded: Sequence[DecodedRecord],
    keep: Callable[[DecodedRecord], Keep],
    skipped: Mapping[Keep, list[DecodedRecord]],
) -> tuple[Sequence[DecodedRecord], list[DecodedRecord], dict[bytes, Keep]]:
    """Return the records that a list has shown, the others, and what is to be done about these, by key.

    Those that are skipped are added to `skipped`, by reason.
    """
    listed, read, how = list[DecodedRecord](), list[DecodedRecord](), dict[bytes, Keep]()
    for record in decoded:
        answer = keep(record)
        if answer in skipped:
            skipped[answer].append(record)
        elif answer is Keep.PUBLISH:
            listed.append(record)
        else:
            read.append(record)
            how[record.observed.key] = answer
    return listed, read, how


def _names_of(decoded: Iterable[DecodedRecord]) -> set[str]:
    """Return the names of the fields that these records have."""
    # Records of one shape have one tuple of names, and to compare those takes more time than to tell them apart.
    shapes = {id(names): names for one in decoded if one.content for names in (one.content.names,)}
    return {name for names in shapes.values() for name in names}


def _modified(packed: bytes) -> int:
    """Return the modification time in a packed state; 0 for none, or if this program did not write it."""
    try:
        return RecordState.unpack(packed).modified
    except ValueError:
        return 0
