"""Retry records that were parked as unreadable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cancellation import finish
from worker.capture.records.fingerprint import bucket_of, pack_id, pack_unreadable, raw_fingerprint
from worker.redis import scripts
from worker.redis.connections import answer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.keys import Keys
    from ordersync_consumer.dead import DeadLetter


async def retry_parked(client: Redis, keys: Keys, letter: DeadLetter) -> bool:
    """Remove the stored mark that the record of a dead letter is unreadable; False if there is no mark.

    The next full scan publishes the record if it can be read by then, and otherwise parks it again with a new dead
    letter.
    """
    stored = await answer(client.hget(keys.cursor(letter.resource), "buckets"))
    buckets = int(stored or 0)
    if not buckets:
        return False
    raw = letter.fingerprint or raw_fingerprint(letter.data)  # under a privacy policy the record is not kept
    packed = pack_id(letter.subject) if letter.subject else pack_unreadable(raw)
    state = f"{keys.states(letter.resource)}:{bucket_of(packed, buckets)}"
    script = scripts.load(client, "worker.capture", "unpark")
    return bool(await finish(script(keys=[state], args=[packed])))
