"""Opens a session: its lease, all that decides whether and how the source is read, and a permit, in one call of Redis.

A poll that finds nothing new is what a worker does nearly all the time, so it must not ask for each of these alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.cancellation import finish
from worker.capture.resources import AuditLog
from worker.capture.state import lease, pauses
from worker.errors import LeaseHeld
from worker.queue.backpressure import StreamGlance
from worker.redis import scripts
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from worker.capture.resources import Captured
    from worker.capture.state.pauses import Pause
    from worker.keys import Keys
    from worker.ordermesh.http.budget import PermitRequest


@dataclass(frozen=True, slots=True)
class Opening:
    """What a session has found when it was opened.

    Attributes:
        fence: Fencing number of the lease; 0 for a lease that the caller holds.
        at: When that was, by the clock of Redis.
        layout: The layout of the keys; None if there are none.
        source: The address of the gateway that the keys come from; None if none is stored.
        cursor: The fields of the cursor.
        has_stream: The stream exists.
        has_fields: The names of the fields exist.
        contract: What probes have found, by resource.
        due: Keys in the refresh queue, due now or later.
        absent: Records that a full scan did not return.
        cut: Audit logs of which a part cannot be read.
        accepts_deletes: A person has accepted that the next full scan may delete any number of records.
        parent: The fields of the cursor of the parent of an audit log.
        glance: The groups of the stream, and the memory of Redis.
        permits: Requests that the budget of the account has granted.
        sharing: Workers that share the budget; 0 if it was not asked.

    """

    fence: int
    at: str
    layout: bytes | None
    source: bytes | None
    cursor: Mapping[bytes, bytes]
    has_stream: bool
    has_fields: bool
    contract: Mapping[bytes, bytes]
    due: int
    absent: int
    cut: int
    accepts_deletes: bool
    parent: Mapping[bytes, bytes]
    glance: StreamGlance
    permits: int = 0
    sharing: int = 0


class Opener:
    """Opens sessions of one source of one account."""

    def __init__(self, redis: Redis, keys: Keys, source: Captured) -> None:
        self._script = scripts.load(
            redis, "worker.capture", "open", begin=("leases", "worker.ordermesh:permits")
        )
        self._name = name = source.name
        self._keys = [
            keys.lease(name), keys.cursor(name), keys.stream(name), keys.fields(name), keys.layout, keys.source,
            keys.contract, keys.paused, keys.refresh_queue(name), keys.unconfirmed_deletes(name),
            keys.cut_logs(name), keys.accepted, keys.budget,
        ]  # fmt: skip
        if isinstance(source, AuditLog):
            self._keys.append(keys.cursor(source.parent.name))

    async def open(self, owner: str, *, memory: bool, permit: PermitRequest | None = None) -> Opening | Pause:
        """Acquire the lease for `owner`, unless that is "", and return what was found; or the pause of the source.

        `memory`: look at the memory of Redis. `permit`: take a permit for the first request; of audit logs only if any
        is due.

        Raises:
            LeaseHeld: Another owner holds the lease.

        """
        args: list[str | float] = [
            owner,
            lease.milliseconds(),
            self._name,
            "1" if memory else "",
            *(permit or ()),
        ]
        status, *found = await finish(self._script(keys=self._keys, args=args))
        if status == b"held":
            raise LeaseHeld(self._name, text_of(found[0]), found[1] / 1000)
        if status == b"paused" and (pause := pauses.in_force(self._name, *found)):
            return pause
        return _opening(found)


def _opening(answer: Sequence[Any]) -> Opening:
    (
        fence,
        at,
        layout,
        source,
        cursor,
        stream,
        fields,
        contract,
        due,
        absent,
        cut,
        accepted,
        parent,
        *glance,
        permits,
        sharing,
    ) = answer
    return Opening(
        fence=fence,
        at=text_of(at),
        layout=layout,
        source=source,
        cursor=_mapping(cursor),
        has_stream=bool(stream),
        has_fields=bool(fields),
        contract=_mapping(contract),
        due=due,
        absent=absent,
        cut=cut,
        accepts_deletes=bool(accepted),
        parent=_mapping(parent),
        glance=StreamGlance(*glance),
        permits=permits,
        sharing=sharing,
    )


def _mapping(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
