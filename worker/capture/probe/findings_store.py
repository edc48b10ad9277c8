"""The findings of the probe as one account stores them in Redis, where all of its workers find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.cancellation import finish
from worker.ordermesh.contract.findings import Capabilities, Withdrawn, adopt, fingerprint
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from worker.capture.probe.gateway import GatewayFindings
    from worker.capture.resources import Resource
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.contract.profile import ContractProfile

_decode = msgspec.json.Decoder(Capabilities).decode


class FindingsStore:
    """The findings of one account, which each `load` applies to `client.profile`.

    Args:
        redis: The client.
        keys: The keys of the account.
        client: Whose profile they change.
        configured: The profile without findings.
        gateway: The findings that all accounts of the gateway share.

    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        client: OrderMeshClient,
        configured: ContractProfile,
        gateway: GatewayFindings,
    ) -> None:
        self._redis, self._keys, self._client, self._gateway = redis, keys, client, gateway
        self.configured, self.fingerprint = configured, fingerprint(configured)
        self._withdrawn: dict[str, tuple[Withdrawn, ...]] = {}

    async def load(self, stored: Mapping[bytes, bytes] | None = None) -> dict[str, Capabilities]:
        """Return the stored findings by resource. Findings of another version or another profile are skipped.

        `stored`: the fields of their hash, if they were loaded just now.
        """
        fields = await answer(self._redis.hgetall(self._keys.contract)) if stored is None else stored
        result = {}
        for name, raw in fields.items():
            try:
                capabilities = _decode(raw)
            except (msgspec.DecodeError, RecursionError):
                continue
            if capabilities.configured == self.fingerprint and capabilities.is_sound:
                result[name.decode()] = capabilities
        self._withdrawn = {name: known.withdrawn for name, known in result.items()}
        self._client.adopt(adopt(self.configured, result.values()))
        return result

    async def of(self, resource: Resource) -> Capabilities | None:
        """Return the findings about a resource; None if none are stored."""
        return (await self.load()).get(resource.name)

    def withdrawn(self, resource: str) -> tuple[Withdrawn, ...]:
        """Return what the gateway honours no longer, as of the last `load`."""
        return self._withdrawn.get(resource, ())

    async def save(self, result: Capabilities) -> None:
        """Store findings, and apply them."""
        text = msgspec.json.encode(result).decode()
        await finish(answer(self._redis.hset(self._keys.contract, result.resource, text)))
        await self.load()

    async def contradict(self, result: Capabilities) -> None:
        """Store what an answer to this account contradicts, and let another account find out whether it is true."""
        await self.save(msgspec.structs.replace(result, origin="contradicted"))
        await self._gateway.doubt(result.resource, fingerprint=self.fingerprint)
