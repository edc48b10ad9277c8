"""Creating an order exactly once, even if responses are lost.

The creation of an order is not idempotent. Whether the order exists can be found out by its safe id, which the caller
chooses. So if the response to the creation is lost, the order is looked up, and a conflict means that it exists
(docs/reference/api-facts.md, 7). The order is never sent a second time. A look-up that does not find it does not prove
that it will not exist: the path is inferred, and a service may continue after its gateway has timed out.
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

LOOKUP_DELAYS = (0.0, 1.0, 4.0)
"""Seconds before each look-up of an order: a service may continue after its gateway has timed out."""


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """An order that exists now."""

    reply: Reply
    """The response to the creation, or the order as it was looked up."""
    created: bool
    """True if the server has confirmed the creation; False if the order existed, or that response was lost."""


async def create_once(
    create: Callable[[Body], Awaitable[Reply]],
    look_up: Callable[[str], Awaitable[Reply]],
    body: Body,
    clock: Clock,
) -> PlacedOrder:
    """Create an order with a single request; if its response is lost, look the order up.

    Other errors of the server pass through, and so does `GatewayUnreachable`: the order was not sent.

    Args:
        create: Sends the order.
        look_up: Returns an order by its safe id.
        body: The order.
        clock: Times the look-ups.

    Raises:
        ValueError: `body` has no `safeId`.
        OutcomeUnknown: The response was lost, and the order was not found. It may still be created.
        Conflict: The server reports a conflict, and no order with this safe id exists.

    """
    safe_id = as_fields(body).get("safeId")
    if not isinstance(safe_id, str) or not safe_id:
        raise ValueError(
            "create_once needs a safeId of your own in the order, to find the order after a lost response"
        )
    try:
        return PlacedOrder(await create(body), created=True)
    except (Conflict, OutcomeUnknown, ServerError) as problem:
        result = await _look_up_after(problem, look_up, safe_id, clock)
        if result is None:
            if isinstance(problem, Conflict):
                raise
            raise _unknown(problem, "no order was found by its safe id") from problem
        return PlacedOrder(result, created=False)


async def _look_up_after(
    problem: Conflict | OutcomeUnknown | ServerError,
    look_up: Callable[[str], Awaitable[Reply]],
    safe_id: str,
    clock: Clock,
) -> Reply | None:
    """Return the order after an attempt that failed; None if it does not exist.

    Raises:
        Conflict, OutcomeUnknown: The look-up failed too.

    """
    try:
        return await _find(look_up, safe_id, clock)
    except OrderMeshError as error:
        if isinstance(problem, Conflict):
            raise problem from error
        raise _unknown(problem, f"the search by its safe id failed: {error}") from error


def _unknown(problem: OutcomeUnknown | ServerError, look_up: str) -> OutcomeUnknown:
    """Return the error for an order that was not found; `look_up` says how the look-up ended."""
    reason = problem.reason if isinstance(problem, OutcomeUnknown) else f"status {problem.status}"
    return OutcomeUnknown(problem.operation, f"{reason}; {look_up}")


async def _find(look_up: Callable[[str], Awaitable[Reply]], safe_id: str, clock: Clock) -> Reply | None:
    """Return the order with this safe id; None if several look-ups have not found it.

    Raises:
        OrderMeshError: A look-up failed.

    """
    for seconds in LOOKUP_DELAYS:
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
