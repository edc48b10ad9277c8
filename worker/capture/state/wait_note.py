"""What the cursor says of the request that a read waits for, so that status can show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.ordermesh.http.waits import Waits
from worker.telemetry.log import redaction

if TYPE_CHECKING:
    from worker.capture.state.cursor import Cursor, CursorUpdate
    from worker.clock import Clock
    from worker.ordermesh.client import OrderMeshClient

NOTED_WAIT = 2.0
"""Seconds. A request that fails and is sent again for a shorter time is not worth a word in the cursor."""


class WaitNote:
    """The fields of the cursor about a wait, as they stand in Redis. `waits`: the requests of the read that wait."""

    def __init__(self, client: OrderMeshClient, clock: Clock) -> None:
        self.waits = Waits()
        self._client, self._clock = client, clock
        self._written: CursorUpdate = {}

    def load(self, cursor: Cursor) -> None:
        """Take over what a loaded cursor says."""
        self._written = {
            "wait": cursor.wait, "wait_code": cursor.wait_code, "wait_since": cursor.wait_since,
            "wait_until": cursor.wait_until,
        }  # fmt: skip

    def changes(self) -> CursorUpdate:
        """Return what the cursor is to say of the wait for OrderMesh; nothing if it says so already."""
        wait = self._client.wait_of(self.waits)
        fields: CursorUpdate = {"wait": "", "wait_code": "", "wait_since": 0.0, "wait_until": 0.0}
        now = self._clock.now()
        if wait is not None and max(now - wait.since, wait.next_try - now) >= NOTED_WAIT:
            fields = {
                "wait": redaction.text(wait.cause), "wait_code": wait.code, "wait_since": wait.since,
                "wait_until": wait.next_try,
            }  # fmt: skip
        return {} if fields == self._written else fields

    def note(self, changes: CursorUpdate) -> None:
        """Take note that a commit has written these changes."""
        self._written = changes or self._written
