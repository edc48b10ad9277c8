"""Creating an order exactly once, though answers get lost.

Nothing makes the creation of an order idempotent by itself; its safe id, which the caller chooses, tells whether it
exists. So an order whose creation got no answer is looked for, and a conflict means that it is there
(docs/reference/api-facts.md, 7). It is never sent a second time: that an order is not found does not prove that there
is none, where the path is only inferred and a service may work on behind a gateway that gave up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.errors import Conflict, NotFound, OrderMeshError, OutcomeUnknown, ServerError, UnreadableAnswer
from worker.ordermesh.bodies import as_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.clock import Clock
    from worker.ordermesh.bodies import Body
    from worker.ordermesh.http.reply import Reply

LOOKS = (0.0, 1.0, 4.0)
"""Seconds of waiting before each look for an order: a gateway that gave up may have a service that works on."""


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """An order that exists now.

    `created`: the server has said that it made it for this call, and `reply` is that answer. Otherwise `reply`
    is the order as it was found: it was there before, or the answer to its creation was lost.
    """

    reply: Reply
    created: bool


async def create_once(
    create: Callable[[Body], Awaitable[Reply]],
    look_up: Callable[[str], Awaitable[Reply]],
    body: Body,
    clock: Clock,
) -> PlacedOrder:
    """Send an order by `create`, once; if the answer is lost, `look_up` finds it by its safe id.

    Other refusals of the server pass through, as does a gateway that was never reached.

    Raises:
        ValueError: There is no `safeId` in `body`.
        OutcomeUnknown: The answer was lost, and the order is not found: it may come to be all the same.
        Conflict: The server speaks of a conflict, and there is no order with this safe id.

    """
    safe_id = as_fields(body).get("safeId")
    if not isinstance(safe_id, str) or not safe_id:
        raise ValueError(
            "create_once needs a safeId of your own in the order, to find the order after a lost response"
        )
    try:
        return PlacedOrder(await create(body), created=True)
    except (Conflict, OutcomeUnknown, ServerError) as problem:
        result = await _found_after(problem, look_up, safe_id, clock)
        if result is None:
            if isinstance(problem, Conflict):
                raise
            raise _unknown(problem, "no order was found by its safe id") from problem
        return PlacedOrder(result, created=False)


async def _found_after(
    problem: Conflict | OutcomeUnknown | ServerError,
    look_up: Callable[[str], Awaitable[Reply]],
    safe_id: str,
    clock: Clock,
) -> Reply | None:
    """The order after a try that failed; None where there is none.

    Raises:
        Conflict, OutcomeUnknown: It cannot be told.

    """
    try:
        return await _find(look_up, safe_id, clock)
    except OrderMeshError as error:
        if isinstance(problem, Conflict):
            raise problem from error
        raise _unknown(problem, f"the search by its safe id failed: {error}") from error


def _unknown(problem: OutcomeUnknown | ServerError, then: str) -> OutcomeUnknown:
    reason = problem.reason if isinstance(problem, OutcomeUnknown) else f"status {problem.status}"
    return OutcomeUnknown(problem.operation, f"{reason}; {then}")


async def _find(look_up: Callable[[str], Awaitable[Reply]], safe_id: str, clock: Clock) -> Reply | None:
    """The order with this safe id; None where there is none after several looks.

    Raises:
        OrderMeshError: It cannot be told.

    """
    for seconds in LOOKS:
        if seconds:
            await clock.sleep(seconds)
        try:
            reply = await look_up(safe_id)
        except NotFound:
            continue
        if reply.fields.get("safeId") not in {None, safe_id}:
            raise UnreadableAnswer(reply.key, "the response is an order with another safe id")
        return reply
    return None
