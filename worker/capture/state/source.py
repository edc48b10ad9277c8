"""The address of the gateway that the events and states of an account come from.

Orders of two gateways under one account would be mixed in its streams, and those of one would look deleted. So a worker
whose settings name another address reads nothing, until the settings say that the same OrderMesh has moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from worker.cancellation import finish
from worker.errors import SourceMoved
from worker.redis.connections import answer
from worker.redis.stored import text_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.config.sections import ApiSettings
    from worker.keys import Keys

_PORTS = {"http": 80, "https": 443}


def address(url: str) -> str:
    """Return an address in one spelling: `https://API.example.com:443/v1/` is `https://api.example.com/v1`."""
    parts = urlsplit(url)
    port = "" if parts.port in {None, _PORTS.get(parts.scheme)} else f":{parts.port}"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


async def check_source(redis: Redis, keys: Keys, api: ApiSettings) -> str:
    """Check that the keys of an account, if there are any, come from the gateway of the settings. Nothing is written.

    Returns:
        The address that is stored; "" for none, or another one from which the settings say that the gateway has moved.

    Raises:
        SourceMoved: They come from another gateway.

    """
    return accepted_source(keys, api, await answer(redis.get(keys.source)))


def accepted_source(keys: Keys, api: ApiSettings, found: bytes | None) -> str:
    """Return the address from what was `found` of it in Redis, if it is accepted; see `check_source`."""
    stored = text_of(found)
    accepted = {"", address(api.base_url), address(api.moved_from) if api.moved_from else ""}
    if stored not in accepted:
        raise SourceMoved(keys.account, stored, api.base_url)
    return stored


async def claim_source(redis: Redis, keys: Keys, api: ApiSettings, found: bytes | None) -> None:
    """Check that the keys of an account come from the gateway of the settings, and store its address.

    `found`: what is stored of it, as the session has found it.

    Raises:
        SourceMoved: They come from another gateway. Nothing was written.

    """
    stored, current = accepted_source(keys, api, found), address(api.base_url)
    if stored == current:
        return
    await finish(answer(redis.set(keys.source, current)))
    if stored:
        get_logger(account=keys.account).warning("source_moved", before=stored, url=current)
