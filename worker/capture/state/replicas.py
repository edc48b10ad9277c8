"""Waits until replicas have a commit, where the settings ask for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.exceptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

    from worker.config.sections import Replicas


async def run_confirmed(
    client: Redis, script: AsyncScript, keys: Sequence[str], args: Sequence[Any], replicas: Replicas
) -> Any:
    """Run a script and wait until replicas have what it wrote; return its answer.

    WAIT goes by the writes of its connection, so both commands are sent on one.

    Raises:
        ConnectionError: Too few replicas have confirmed in time. The server has executed the script.
        RedisError: The script failed, or the server is away.

    """
    if not replicas.count:
        return await script(keys=keys, args=args)
    answer, confirmed = await _send(client, script, keys, args, replicas)
    if isinstance(answer, redis.exceptions.NoScriptError):
        script.sha = await client.script_load(script.script)
        answer, confirmed = await _send(client, script, keys, args, replicas)
    for each in (answer, confirmed):
        if isinstance(each, Exception):
            raise each
    if confirmed < replicas.count:
        raise redis.exceptions.ConnectionError(
            f"UNCONFIRMED {confirmed} of {replicas.count} replicas have the commit within {replicas.seconds:g} s"
        )
    return answer


async def _send(
    client: Redis, script: AsyncScript, keys: Sequence[str], args: Sequence[Any], replicas: Replicas
) -> list[Any]:
    async with client.pipeline(transaction=False) as pipe:
        pipe.evalsha(script.sha, len(keys), *keys, *args)
        pipe.wait(replicas.count, int(replicas.seconds * 1000))
        return list(await pipe.execute(raise_on_error=False))
