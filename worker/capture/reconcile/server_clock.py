"""What the clock of OrderMesh says, by which the times of audit entries go."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.errors import NotFound, ServerError, Unaddressable
from worker.ordermesh.contract.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from worker.capture.resources import Resource
    from worker.capture.state.record_states import StoredRecord
    from worker.capture.throttle import Throttle
    from worker.clock import Clock
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.http.usage import Usage

MAX_TRIES = 5
"""Records whose logs are tried for an answer: that of one may be broken."""


@dataclass(frozen=True, slots=True)
class ServerClock:
    """Asks the service of a resource what time it is, within the pace."""

    client: OrderMeshClient
    pace: Throttle
    usage: Usage
    clock: Clock

    async def offset(
        self, resource: Resource, records: AsyncGenerator[StoredRecord], stop: Callable[[], bool]
    ) -> float:
        """By how many seconds its clock is ahead of ours, at least, by the answer to an audit log of `records`.

        0 where it does not tell, or there is no record.

        Raises:
            OrderMeshError: The gateway cannot be asked.

        """
        assert resource.audit is not None  # noqa: S101 - see `proof.can_be_proven`
        (name,) = OPERATIONS[resource.audit].path_parameters
        tries = 0
        async with aclosing(records):
            async for met in records:
                if not await self.pace.wait(stop):
                    break
                try:
                    reply = await self.client.call(
                        resource.audit, path={name: met.identifier}, usage=self.usage
                    )
                except Unaddressable:  # nothing was sent
                    continue
                except (NotFound, ServerError):
                    tries += 1
                    if tries >= MAX_TRIES:
                        raise
                    continue
                # Its resolution is a second: the earliest moment that it may have meant.
                return reply.date - self.clock.now() if reply.date is not None else 0.0
        return 0.0
