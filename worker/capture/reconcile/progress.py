"""What is kept of the completeness proof of a resource: how far it has come, what is open, what each pass has found.

`ordersync:{A}:reconcile:RESOURCE` is a hash: up to when everything is proven, and the pass under way.
`ordersync:{A}:gaps:RESOURCE` is a hash of records that could not be proven, by id. `ordersync:{A}:coverage:RESOURCE` is
a stream with an entry for each pass that came to its end, of which the last ones are kept.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgpack
import msgspec

from ordersync_consumer.redaction import words_of
from worker.cancellation import finish
from worker.capture.state.commit_id import new_commit_id
from worker.clock import is_ahead
from worker.errors import DataError, LeaseLost
from worker.redis import scripts
from worker.redis.connections import answer
from worker.redis.stored import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from worker.keys import Keys

MAX_WAIT_SECONDS = 3600.0
"""Until a pass that failed continues, at most."""
PASSES_KEPT = 2000
"""Entries of the stream: with one pass an hour, those of 83 days."""
LEASE = "reconcile"
"""The lease under which an account is reconciled, whatever the resource: its share of the budget is taken once."""
ABSENT = "absent"
"""Why a record is open that was answered not to be there: complete reads see to it, and publish its deletion."""
CUT = "log_cut"
"""Why a record is open of whose audit log only a part can be read."""

_pack = partial(msgpack.packb, use_bin_type=False)


class Gap(msgspec.Struct, frozen=True):
    """A record that could not be proven. `at`: time of the audit entry (ms), 0 where the log itself cannot be read.

    `version`: the one that was published last by then; a later one means that the gap was healed. `why`: a word,
    or the code of an error. `seen`: which pass has found it last (when that began, seconds since 1970).
    """

    at: int
    version: int
    why: str
    seen: float

    @property
    def is_absent(self) -> bool:
        """Whether it waits for its deletion to be confirmed, and for nothing else."""
        return self.why == ABSENT


class ReconcileCounts(msgspec.Struct):
    """What a pass has found so far, or in all.

    `records` were looked at, of which `verified` are proven; `entries` of their audit logs lay within the window.
    `found`: gaps, records of which something was not published; `healed` of them were, and `open` are not.
    `absent`: records that were answered not to be there, and whose deletion is not published yet. `erased`: records
    that a person has erased; they are not looked at, and nothing is said of them. `timeless`: entries without a time.
    `requests`: what it has cost. `healed_at`: gaps healed by the hour (since 1970) of their entry.
    """

    records: int = 0
    verified: int = 0
    entries: int = 0
    found: int = 0
    healed: int = 0
    open: int = 0
    absent: int = 0
    erased: int = 0
    timeless: int = 0
    requests: int = 0
    healed_at: dict[int, int] = {}

    def heal(self, at: int) -> None:
        """A gap was healed, whose audit entry is from `at` (ms)."""
        hour = at // 3_600_000
        self.found, self.healed = self.found + 1, self.healed + 1
        self.healed_at = {**self.healed_at, hour: self.healed_at.get(hour, 0) + 1}


class ReconcileProgress(msgspec.Struct, frozen=True):
    """Where the proof of a resource stands. Times in seconds since 1970, but for those in ms by OrderMesh's clock.

    `complete_since`, `complete_until` (ms): everything that audit logs tell of that time is published; 0 for nothing.
    `began`: when the pass under way did, 0 if there is none; `since`, `until` (ms): its window; `bucket`, `behind`:
    the record that it has come to; `counts`: what it has found; `checking`: version, and time of the entry, of records
    that are being read by id, so that it is known after a crash which of them were healed.
    `due_at`, `interval`: when it goes on, and how often it is to begin. `off`: why nothing can be proven, in words.
    """

    complete_since: int = 0
    complete_until: int = 0
    began: float = 0.0
    since: int = 0
    until: int = 0
    bucket: int = 0
    behind: str = ""
    counts: ReconcileCounts = msgspec.field(default_factory=ReconcileCounts)
    checking: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    due_at: float = 0.0
    interval: float = 0.0
    failures: int = 0
    error: str = ""
    error_code: str = ""
    off: str = ""

    @classmethod
    def parse(cls, fields: Mapping[bytes, bytes]) -> ReconcileProgress:
        """Read the hash as Redis gives it.

        Raises:
            DataError: A value is not one that this program writes.

        """
        try:
            values: dict[str, Any] = {name.decode(): value.decode() for name, value in fields.items()}
            for name in ("counts", "checking"):
                if name in values:
                    values[name] = msgspec.json.decode(values[name])
            return msgspec.convert(values, cls, strict=False)
        except UNREADABLE as error:
            raise DataError(
                f"the progress of reconciliation cannot be read: {words_of(error)}. Delete the key to start "
                "reconciliation again."
            ) from None


class ReconcilePass(msgspec.Struct, frozen=True):
    """A pass that came to its end: the window that it went over (ms), when it ran, and what it found.

    `proven`: nothing of the window is open, and everything up to `until` is known to be published.
    """

    since: int
    until: int
    began: float
    ended: float
    proven: bool
    counts: ReconcileCounts


def is_due(due_at: float, interval: float, began: float, *, every: float, now: float) -> bool:
    """Return True if a slice of reconciliation is due at `now`; the arguments are those of `wait_of`."""
    return wait_of(due_at, interval, began, every=every, now=now) <= 0


def due_in(
    due_at: bytes | None, interval: bytes | None, began: bytes | None, *, every: float, now: float
) -> float:
    """Return the seconds until a slice is due by these fields of the hash; 0 if they cannot be read."""
    try:
        return wait_of(float(due_at or 0), float(interval or 0), float(began or 0), every=every, now=now)
    except ValueError:
        return 0.0


def wait_of(due_at: float, interval: float, began: float, *, every: float, now: float) -> float:
    """Return the seconds until a slice of reconciliation is due; 0 or less for now.

    A shorter interval counts at once. What lies further ahead than a pass or a slice ever waits, or began in the
    future, is due as well: the clock was put back since it was written.

    Args:
        due_at: Field of the progress.
        interval: Field of the progress: the interval when `due_at` was written.
        began: Field of the progress.
        every: The interval of the settings, in seconds.
        now: The current time, in seconds since 1970.

    """
    if interval and not began:
        due_at += min(0.0, every - interval)
    wait = due_at - now
    return wait if wait <= max(every, MAX_WAIT_SECONDS) and not is_ahead(began, now) else 0.0


class Coverage:
    """The proof of one resource of one account, as it stands in Redis."""

    def __init__(self, redis: Redis, keys: Keys, resource: str) -> None:
        self._redis, self._resource = redis, resource
        self._progress, self._gaps, self._passes = (
            keys.reconcile(resource), keys.gaps(resource), keys.coverage(resource),
        )  # fmt: skip
        self._keys = [keys.lease(LEASE), self._progress, self._gaps, self._passes, keys.cursor(resource)]
        self._prove = scripts.load(redis, "worker.capture", "prove", begin=("chain",))

    async def load(self) -> ReconcileProgress:
        """How far it has come.

        Raises:
            DataError: It was written by another hand.

        """
        return ReconcileProgress.parse(await answer(self._redis.hgetall(self._progress)))

    async def gaps(self) -> dict[str, Gap]:
        """What is open, by id. What another hand has written is passed over."""
        result = {}
        for identifier, value in (await answer(self._redis.hgetall(self._gaps))).items():
            try:
                result[identifier.decode("utf-8", "surrogatepass")] = msgspec.json.decode(value, type=Gap)
            except UNREADABLE:
                continue
        return result

    async def passes(self, *, since: float = 0.0) -> list[ReconcilePass]:
        """Those that ended since then (seconds since 1970), the oldest first."""
        oldest = str(max(0, int(since * 1000)))
        result = []
        for _, fields in await self._redis.xrange(self._passes, min=oldest):
            try:
                result.append(msgspec.json.decode(fields[b"pass"], type=ReconcilePass))
            except (*UNREADABLE, KeyError):
                continue  # of another hand
        return result

    async def update(
        self,
        fence: int,
        fields: Mapping[str, object],
        *,
        gaps: Mapping[str, Gap],
        opened: Mapping[str, Gap] | None = None,
        closed: Sequence[str] = (),
        ended: ReconcilePass | None = None,
    ) -> None:
        """Write fields of the progress, and what has become of the gaps. No cancellation cuts it short.

        `gaps`: all that are then open; `opened`: those among them that are new; `closed`: ids that are none any more.

        Raises:
            LeaseLost: Another worker has taken over; nothing was written.

        """
        entry = ["pass", msgspec.json.encode(ended).decode()] if ended else []
        kept = [item for name, gap in (opened or {}).items() for item in (name, msgspec.json.encode(gap))]
        counted = sum(not gap.is_absent for gap in gaps.values())
        this = new_commit_id(fence)
        note = [str(fence), this, _flat(fields), kept, list(closed), entry, PASSES_KEPT, counted]
        status, *_ = await finish(
            self._prove(keys=self._keys, args=[_pack(note, unicode_errors="surrogatepass")])
        )
        if status != b"ok":
            raise LeaseLost(f"{LEASE} of {self._resource}", fence)


def _flat(fields: Mapping[str, object]) -> list[str]:
    flat: list[str] = []
    for name, value in fields.items():
        flat += (name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return flat
