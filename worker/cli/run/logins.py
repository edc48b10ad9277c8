"""The logins of a start, or of a reload, which are made at the same time: a slow gateway delays them once only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from ordersync_consumer.servers.topology import SlotUnavailable
from worker.cancellation import plain_errors
from worker.errors import OrderMeshError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.services import Services


async def log_in(services: Services, names: Sequence[str]) -> dict[str, OrderMeshError | SlotUnavailable]:
    """Log in for these accounts, at the same time. Return what has failed, by account, in their order."""
    failed: dict[str, OrderMeshError | SlotUnavailable] = {}

    async def attempt(name: str) -> None:
        try:
            await services.accounts[name].client.tokens.get()
        except (OrderMeshError, SlotUnavailable) as error:
            failed[name] = error

    with plain_errors():
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(attempt, name)
    return {name: failed[name] for name in names if name in failed}
