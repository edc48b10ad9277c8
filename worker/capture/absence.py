"""Records that a complete read did not show: deleted, or hidden from it while pages moved under it.

A record counts as deleted when a complete read did not show it and OrderMesh then answers twice that there is no
such record; where a single record cannot be read, when two complete reads in a row did not show it. A read after
which more than a share of all records would be deleted is not believed: somebody looks at it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.capture import due
from worker.capture.detect import Change, decide_deleted
from worker.capture.store import NOTHING, Dealt

if TYPE_CHECKING:
    from worker.capture.resources import Resource
    from worker.capture.store import Cursor, Store

MOST_DELETED = 0.02
"""The share of all records that one complete read may find deleted."""
CONFIRM_SECONDS = 30.0
"""Between the two answers that there is no such record."""
TIMES = 2
"""Answers, or complete reads, that it takes."""


@dataclass(frozen=True, slots=True)
class Absences:
    """What follows from a complete read for the records that it did not show.

    `held_back`: how many these were, at least, if they are more than may be deleted; else 0. `missing`: how many
    will be looked at. `accepted`: a person had said beforehand that it is to be believed.
    """

    deleted: tuple[Change, ...] = ()
    dealt: Dealt = NOTHING
    missing: int = 0
    held_back: int = 0
    accepted: bool = False


def most_deleted(tracked: int) -> int:
    """How many of so many records may be deleted without somebody looking at it: 2 %, and always one."""
    return max(1, int(tracked * MOST_DELETED))


async def find(store: Store, resource: Resource, cursor: Cursor, *, single: bool, accepted: bool) -> Absences:
    """What the complete read that has just ended did not show. `single`: one record can be read by its id.

    `accepted`: a person has said that as many as it may be are deleted.
    """
    most = cursor.tracked if accepted else most_deleted(cursor.tracked)
    missing = await store.missing(cursor, most)
    if len(missing) > most:
        return Absences(held_back=len(missing))
    before = await store.all_absent()
    shown = [identifier for identifier in before if identifier not in set(missing)]
    if single:
        new = [identifier for identifier in missing if identifier not in before]
        later = dict.fromkeys(map(due.record, missing), 0.0)
        dealt = Dealt(later=later, absent=dict.fromkeys(new, 0), present=shown)
        return Absences(dealt=dealt, missing=len(missing), accepted=accepted)
    deleted, waiting = [], dict[str, int]()
    for identifier in missing:
        times = before.get(identifier, 0) + 1
        change = None
        if times >= TIMES:
            change = decide_deleted(resource, identifier, await store.state_of(identifier, cursor.buckets))
        if change is not None:
            deleted.append(change)
            shown.append(identifier)
        else:
            waiting[identifier] = times
    dealt = Dealt(absent=waiting, present=shown)
    return Absences(tuple(deleted), dealt, missing=len(missing), accepted=accepted)
