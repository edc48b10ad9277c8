"""The backpressure of a worker, and what it must have published after it."""

from __future__ import annotations

from typing import Any

from tests.support.streams import STREAM
from tests.support.worker import Bench
from worker.capture.poll import Poller
from worker.queue.backpressure import Backpressure, HighWaterMarks
from worker.sandbox import SandboxServer


def under(b: Bench, **marks: Any) -> Poller:
    """The poller of the bench, under these marks."""
    b.account.poller.context.backpressure = Backpressure(
        b.account.groups, HighWaterMarks(**marks), b.services.clock
    )
    return b.account.poller


def check_published(client: Any, sandbox: SandboxServer) -> None:
    """Every order once, in order, as it is."""
    entries = client.xrange(STREAM)
    assert [int(fields[b"sequence"]) for _, fields in entries] == list(range(1, len(entries) + 1))
    told = {fields[b"subject"].decode(): fields[b"data"] for _, fields in entries}
    assert len(told) == len(entries)
    assert told == sandbox.store.truth()
