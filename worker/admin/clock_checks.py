"""The checks of `ordersync doctor` on clocks: that of the gateway, and those of workers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from worker.admin.finding import Finding, Severity, problem_of
from worker.errors import ApiError, OrderMeshError
from worker.service.presence import Presence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.keys import Keys
    from worker.ordermesh.contract.findings import Capabilities
    from worker.services import AccountServices

MAX_OFFSET = 30.0
"""Acceptable difference between two clocks in seconds."""


async def check_clock(
    account_services: AccountServices, result: dict[str, Capabilities], clock: Clock
) -> AsyncIterator[Finding]:
    """Yield the offset of the gateway's clock, from the `Date` of a response, which has a resolution of a second.

    A slow response says little: the clocks agree if the gateway may have written it at our time.
    """
    account = account_services.account.name
    search = next((item.search for item in result.values() if item.state in {"found", "empty"}), None)
    if search is None:
        return
    try:
        before = clock.now()
        reply = await account_services.client.call(
            search, query=account_services.client.profile.page_query(search, 0, 1)
        )
    except ApiError:
        return
    except OrderMeshError as error:
        yield problem_of("clock", error, account)
        return
    if reply.date is None:
        yield Finding("clock", Severity.NOTE, "the gateway does not report its time", account=account)
        return
    # The gateway wrote the Date during the request, and truncated it: the true time is up to a second later.
    least, most = reply.date - clock.now(), reply.date + 1 - before
    if least <= 0 <= most:
        near = math.ceil(max(-least, most))
        yield Finding(
            "clock", Severity.OK, f"the gateway's clock agrees with ours within {near} s", account=account
        )
    else:
        yield judge_offset("the gateway's", (least + most) / 2, account)


async def check_workers(client: Redis, keys: Keys) -> AsyncIterator[Finding]:
    """Yield the live workers whose hosts have a clock that differs from that of Redis."""
    for beat in await Presence(client, keys).alive():
        if abs(beat.clock_offset) >= MAX_OFFSET:
            yield judge_offset(f"worker {beat.worker}'s", beat.clock_offset, keys.account, "that of Redis")


def judge_offset(whose: str, offset: float, account: str, other: str = "ours") -> Finding:
    """Return the finding on a clock that is `offset` seconds ahead of another one."""
    direction = "ahead of" if offset > 0 else "behind"
    if abs(offset) < MAX_OFFSET:
        near = (
            f"is {abs(offset):.1f} s {direction} {other}"
            if abs(offset) >= 1
            else f"agrees with {other} within 1 s"
        )
        return Finding("clock", Severity.OK, f"{whose} clock {near}", account=account)
    return Finding(
        "clock", Severity.WARNING, f"{whose} clock is {abs(offset):.0f} s {direction} {other}",
        "set up time synchronisation; no change is missed, but ages and times in logs are wrong", account,
    )  # fmt: skip
