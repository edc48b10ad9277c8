"""Which workers are alive: what each of them says of itself in Redis, and when that is forgotten."""

from __future__ import annotations

import time

import pytest

from tests.support.servers import Server
from worker.keys import Keys, KeySpace
from worker.redis.connections import connect
from worker.service.heartbeat import Beat
from worker.service.presence import Presence, say_alive

pytestmark = pytest.mark.anyio


async def test_workers_come_and_go(redis_url: str) -> None:
    """One that gives no more signs is not counted, nor one that has said goodbye; names of old ones are forgotten."""
    redis = connect(redis_url)
    presence = Presence(redis, Keys("default"))
    now, space = round(time.time(), 3), KeySpace()
    beats = [Beat(name, 1, now, now) for name in ("a", "b", "c")]
    for beat in beats:
        await say_alive(redis, space, beat.worker, now)
        await presence.beat(beat)
    assert await presence.alive() == beats
    await presence.leave("b")
    await redis.delete(space.worker("c"))  # it has expired
    assert await presence.alive() == beats[:1]
    await say_alive(redis, space, "c", now)
    await redis.set(Keys("default").worker("c"), "?")
    assert await presence.alive() == beats[:1]
    assert 0 < await redis.pttl(space.worker("a")) <= 15_000
    await say_alive(redis, space, "a", now + 3)  # other accounts have their turn
    assert await presence.alive() == [replace_at(beats[0], now + 3)]
    await presence.beat(replace_at(beats[0], now + 86_401))
    assert await redis.zrange(Keys("default").workers, 0, -1) == [b"a"]
    await redis.aclose()


def replace_at(beat: Beat, at: float) -> Beat:
    return Beat(beat.worker, beat.pid, at, beat.started)


async def test_a_full_redis_keeps_the_workers_alive(own_server: Server) -> None:
    """There is no room for another heartbeat then; that a worker is alive must not be forgotten for that."""
    redis = connect(own_server.url)
    presence, key = Presence(redis, Keys("default")), KeySpace().worker("a")
    beat = Beat("a", 1, round(time.time(), 3), 1.0)
    await say_alive(redis, KeySpace(), "a", beat.at)
    await presence.beat(beat)
    await redis.pexpire(key, 5000)
    await redis.config_set("maxmemory", 1)
    await say_alive(redis, KeySpace(), "a", time.time() + 5)
    await presence.beat(replace_at(beat, time.time() + 5))
    assert await redis.pttl(key) > 5000
    assert await presence.alive() == [beat]
    await redis.aclose()
