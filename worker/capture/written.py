"""What is to be done about records that were read, and what became of them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from worker.capture.records.actions import PUBLISHED, UNWRITTEN, Action

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from worker.capture.records.decoding import DecodedRecord
    from worker.capture.records.diff import Change

WRITTEN = frozenset(Action) - UNWRITTEN
"""The actions of changes that have to be written."""


class Keep(Enum):
    """What a caller wants to be done about a record that was looked up."""

    PUBLISH = auto()
    """Publish it if its content has changed. Where it is older than what was published, that has to be confirmed."""
    CONFIRM = auto()
    """Likewise; it was read by its id, so it confirms an older state that was shown before."""
    ACCEPT = auto()
    """Publish it if its content has changed, whatever its time."""
    FORCE = auto()
    """Publish it in any case."""
    SKIP = auto()
    BY_ID = auto()
    """Skip it: it is to be read by its id."""
    BY_LIST = auto()
    """Skip it: it is to be read from the list."""


def publish_all(_: DecodedRecord) -> Keep:
    """Publish each record whose content has changed."""
    return Keep.PUBLISH


def accept_all(_: DecodedRecord) -> Keep:
    """Publish each record whose content has changed, whatever its time."""
    return Keep.ACCEPT


def nothing_skipped() -> dict[Keep, list[DecodedRecord]]:
    """Return the reasons to skip a record, each with no record."""
    return {Keep.SKIP: [], Keep.BY_ID: [], Keep.BY_LIST: []}


@dataclass(slots=True)
class Written:
    """What became of records: their changes, also those that need not be written, and the skipped ones by reason."""

    changes: Sequence[Change] = ()
    skipped: dict[Keep, list[DecodedRecord]] = field(default_factory=nothing_skipped)
    _actions: frozenset[Action] = field(init=False)

    def __post_init__(self) -> None:
        self._actions = frozenset([change.action for change in self.changes])

    @property
    def pending(self) -> Sequence[Change]:
        """The changes that have to be written."""
        return self._with(WRITTEN)

    def of(self, action: Action) -> Sequence[Change]:
        """The changes with this action."""
        return self._with({action})

    @property
    def published(self) -> Sequence[Change]:
        """The changes that are events."""
        return self._with(PUBLISHED)

    def _with(self, actions: AbstractSet[Action]) -> Sequence[Change]:
        if self._actions <= actions:  # nearly always all have the same
            return self.changes
        if self._actions.isdisjoint(actions):
            return ()
        return [change for change in self.changes if change.action in actions]
