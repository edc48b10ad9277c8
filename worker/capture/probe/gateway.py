"""What is true of a gateway, whichever account asks: found by the probe of one account, taken over by the others.

The accounts with one base address and one contract share these findings: paths, pages, filters, sorts. What a token may
read and what a list contains is of the account, and is not taken over. The first answers to an account show whether the
findings are true for it; what contradicts them is withdrawn for that account, and the next account that needs them
probes again.

The keys belong to no account, so no script and no transaction uses them together with keys of an account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import msgspec
from redis.exceptions import ResponseError

from ordersync_consumer.servers.topology import SlotUnavailable
from worker.cancellation import finish
from worker.ordermesh.contract.findings import Capabilities, is_shareable, joined
from worker.redis.connections import answer
from worker.redis.refusals import is_wrong_value

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.keys import GatewayKeys

FRESH_SECONDS = 86_400.0
"""Seconds for which findings are taken over."""
KEPT_SECONDS = 7 * 86_400
"""Seconds after which findings that nobody has renewed are removed: the contract or the address has changed."""
LOOK_SECONDS = 60.0
"""Seconds for which a process goes by the findings that it has loaded."""

_decode = msgspec.json.Decoder(Capabilities).decode


class GatewayFindings:
    """The findings about one gateway, which the accounts of a process share.

    Args:
        redis: A client for keys of no account: on a cluster they are on other nodes than those of the accounts.
        keys: The keys of the gateway.
        clock: The clock.
    """

    def __init__(self, redis: Redis, keys: GatewayKeys, clock: Clock) -> None:
        self.redis, self.keys, self._clock = redis, keys, clock
        self._loaded: dict[str, tuple[float, Capabilities]] = {}

    async def get(self, resource: str, *, fingerprint: str) -> Capabilities | None:
        """Return what is known of a list, be it usable by others or not; None if no account has probed it.

        What other processes have found or withdrawn is seen within a minute.
        """
        at, known = self._loaded.get(resource, (0.0, None))
        if known is not None and 0 <= self._clock.monotonic() - at < LOOK_SECONDS and self.is_usable(known):
            return known
        try:
            raw = await answer(self.redis.hget(self.keys.contract, resource))
            self._loaded.pop(resource, None)
            known = _decode(raw) if raw else None
        except SlotUnavailable:  # the nodes of the accounts may answer: go by what was loaded
            return known
        except (msgspec.DecodeError, RecursionError):
            return None
        except ResponseError as error:
            if not is_wrong_value(error):
                raise
            return None  # each account probes for itself; `ordersync doctor` names the key
        if known is None or known.configured != fingerprint or not known.is_sound:
            return None
        self._loaded[resource] = (self._clock.monotonic(), known)
        return known

    def is_usable(self, known: Capabilities | None) -> TypeGuard[Capabilities]:
        """True if accounts may take these findings over: they are of a list with records, not old, and not doubted."""
        return known is not None and is_shareable(known) and 0 <= self._clock.now() - known.at < FRESH_SECONDS

    async def publish(self, result: Capabilities, *, agreed: bool) -> None:
        """Store the findings of a probe for the other accounts.

        Args:
            result: The findings.
            agreed: The probe was made for all accounts; otherwise it replaces nothing that is usable.

        """
        before = await self.get(result.resource, fingerprint=result.configured)
        if self.is_usable(before):
            if not agreed or not is_shareable(result):
                return
            result = joined(before, result)
        elif before is not None and before.state == "found" and not agreed and not is_shareable(result):
            return
        await self._save(result)

    async def doubt(self, resource: str, *, fingerprint: str) -> None:
        """Let a list be probed again before the next account takes its findings over: an account contradicts them."""
        known = await self.get(resource, fingerprint=fingerprint)
        if known is not None and known.at:
            await self._save(msgspec.structs.replace(known, at=0.0))

    async def _save(self, result: Capabilities) -> None:
        self._loaded[result.resource] = (self._clock.monotonic(), result)
        text = msgspec.json.encode(result).decode()
        try:
            await finish(answer(self.redis.hset(self.keys.contract, result.resource, text)))
            await finish(answer(self.redis.expire(self.keys.contract, KEPT_SECONDS)))
        except SlotUnavailable:
            return  # the other accounts probe for themselves
        except ResponseError as error:
            if not is_wrong_value(error):
                raise
