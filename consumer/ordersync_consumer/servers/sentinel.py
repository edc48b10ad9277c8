"""Asks sentinels which server is the master."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError

from ordersync_consumer.redaction import words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ordersync_consumer.servers.address import Address

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0


class Master:
    """The master of one name. The sentinel that has answered last is asked first.

    Args:
        address: The address, with the sentinels.
        tls: The options of redis-py for TLS, which apply to the connections to sentinels too.

    """

    def __init__(self, address: Address, tls: Mapping[str, Any]) -> None:
        self._name, self._hosts = address.name, list(address.hosts)
        self._found: tuple[str, int] | None = None
        self.failovers = 0
        """How often another server was found than before."""
        self._options: dict[str, Any] = {
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": ANSWER_SECONDS,
            "username": address.sentinel_user or None,
            "password": address.sentinel_password or None,
            **({"ssl": True, **tls} if address.is_encrypted else {}),
        }

    async def find(self) -> tuple[str, int]:
        """Return host and port of the master.

        Raises:
            MasterNotFoundError: No sentinel names one; the message has the answer of each.

        """
        said = []
        for host, port in list(self._hosts):
            try:
                found = await self._ask(host, port)
            except (redis.exceptions.RedisError, OSError) as error:
                said.append(f"{host}:{port}: {words_of(error, 120)}")
                continue
            if found is not None:
                self._hosts.remove((host, port))
                self._hosts.insert(0, (host, port))
                self.failovers += self._found not in {None, found}
                self._found = found
                return found
            said.append(f"{host}:{port} knows no master of this name")
        raise MasterNotFoundError(f"No sentinel names a master {self._name!r} ({'; '.join(said)})")

    async def _ask(self, host: str, port: int) -> tuple[str, int] | None:
        client = Redis(host=host, port=port, **self._options)
        try:
            found = await client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self._name)  # type: ignore[no-untyped-call] # untyped in redis-py
        finally:
            await client.aclose()
        if not found:
            return None
        name, number = (part.decode() if isinstance(part, bytes) else str(part) for part in found)
        return name, int(number)
