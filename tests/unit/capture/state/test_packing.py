"""The arguments of a commit."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec

from worker.capture.records.decoding import decode
from worker.capture.records.diff import Change, decide
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import RecordState
from worker.capture.records.payload import AS_SERVED
from worker.capture.records.raw_records import observe
from worker.capture.registry import ORDERS
from worker.capture.state.commit import Commit
from worker.capture.state.packing import CommitPacker


def change_of(before: bytes) -> Change:
    """The change of a record with this state."""
    (observed,) = observe(ORDERS, [msgspec.Raw(b'{"id":"65e0aa7be9ab8ac8a2e3b9a1","total":1}')])
    return decide(decode(ORDERS, observed, before, frozenset()), FieldIndex(["id", "total"]), baseline=True)


def beside(before: bytes) -> Any:
    """What is sent of such a change beside its states."""
    commit = Commit(fence=1, buckets=64, reason="poll", observed_at=1.0, changes=[change_of(before)])
    packed = CommitPacker("order", AS_SERVED, ()).pack(commit, {})
    *_, last = msgpack.unpackb(packed.changes, raw=True)
    return last


def test_of_a_usual_change_only_the_states_are_sent() -> None:
    """Of a new and of a changed record. One that exists again, or that another program wrote, counts as a new one."""
    changed = RecordState(b"12345678", 7, 0, 3, b"ab" * 2)
    assert (beside(b""), beside(changed.pack())) == (False, False)
    assert beside(changed.deleted().pack())[:2] == [1, 1]
    assert beside(b"of another hand")[:2] == [1, 1]
