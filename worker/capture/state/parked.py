"""Retry records that were parked as unreadable: a person asks for it, and the worker, which writes states, does it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from worker.cancellation import finish
from worker.capture.records.fingerprint import bucket_of, pack_id, pack_unreadable, raw_fingerprint
from worker.capture.state.changes import tell_change
from worker.redis import scripts
from worker.redis.connections import answer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ordersync_consumer.dead import DeadLetter
    from worker.keys import Keys


async def retry_parked(client: Redis, keys: Keys, letter: DeadLetter) -> bool:
    """Ask the worker to look again at the record of a dead letter; False if it is not marked as unreadable.

    The next full scan publishes the record if it can be read by then, and otherwise parks it again with a new dead
    letter.
    """
    raw = letter.fingerprint or raw_fingerprint(letter.data)  # under a privacy policy the record is not kept
    packed = pack_id(letter.subject) if letter.subject else pack_unreadable(raw)
    state = await _state_key(client, keys, letter.resource, packed)
    if state is None or not await answer(client.hexists(state, packed)):  # type: ignore[arg-type] # bytes are fine
        return False
    await finish(answer(client.sadd(keys.retries, letter.resource.encode() + b"\0" + packed)))
    await tell_change(client, keys)
    return True


async def apply_retries(client: Redis, keys: Keys) -> int:
    """Let the next read look again at the records that were asked for. Return how many there were."""
    asked: set[bytes] = await answer(client.smembers(keys.retries))
    script = scripts.load(client, "worker.capture", "unpark")
    for member in asked:
        resource, _, packed = member.partition(b"\0")
        name = resource.decode("utf-8", "replace")
        state = await _state_key(client, keys, name, packed)
        args = [packed if state else "", member, secrets.token_hex(8)]
        await finish(script(keys=[state or keys.retries, keys.retries, keys.cursor(name)], args=args))
    return len(asked)


async def _state_key(client: Redis, keys: Keys, resource: str, packed: bytes) -> str | None:
    """Return the hash with the state of a record; None if the resource was never read."""
    stored = await answer(client.hget(keys.cursor(resource), "buckets"))
    try:
        buckets = int(stored or 0)
    except ValueError:
        buckets = 0
    return f"{keys.states(resource)}:{bucket_of(packed, buckets)}" if buckets else None
