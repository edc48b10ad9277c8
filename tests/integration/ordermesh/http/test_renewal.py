"""When a token is renewed, and what happens if it cannot be."""

from __future__ import annotations

import asyncio

import pytest
import redis.exceptions
from redis.asyncio import Redis

from tests.support.scripted_server import OwnClock
from tests.support.servers import Server
from tests.support.tokens import KEYS, Maker, UserService, moved, renewed
from tests.support.waiting import eventually
from worker.errors import GatewayUnreachable, LoginRejected, ServerError, UnreadableAnswer
from worker.ordermesh.http.auth import RENEW_AFTER, Credentials

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
async def test_renewal_is_jittered(source: Maker, chance: float) -> None:
    """A token is renewed at a random point of the last part of its life, well before its end."""
    service, clock = UserService(lifetime=1_000), OwnClock(chance)
    tokens = source(service, clock=clock)
    token = await tokens.get()
    assert clock.drawn == [RENEW_AFTER]
    share = RENEW_AFTER[0] + (RENEW_AFTER[1] - RENEW_AFTER[0]) * chance
    assert token.renew_at - token.issued_at == pytest.approx(1_000 * share)
    clock.offset += 1_000 * share - 10
    assert (await tokens.get()).access == "a1"
    clock.offset += 11
    assert (await tokens.get()).access == "a2"
    assert RENEW_AFTER[1] < 1


async def test_while_another_renews_the_old_token_holds(source: Maker, db: Redis) -> None:
    """Nobody waits for a renewal while the token still lives; one that was refused is waited for."""
    service, clock = UserService(), OwnClock()
    slow, other = source(service, clock=clock), source(service, clock=clock)
    token = await slow.get()
    moved(clock, token, to=token.renew_at)
    service.gate = asyncio.Event()
    call = asyncio.create_task(slow.get())
    await eventually(lambda: len(service.requests) == 2)
    assert (await other.get()).access == "a1"
    refused = asyncio.create_task(renewed(other, "a1"))
    await asyncio.wait([refused], timeout=0.05)
    assert not refused.done()
    service.gate.set()
    assert ((await call).access, await refused) == ("a2", "a2")
    assert len(service.requests) == 2


AWAY = [
    GatewayUnreachable("clients.token", "http://gateway", "away"),
    ServerError("clients.token", 503, ""),
    UnreadableAnswer("clients.token", "a web page"),
]


@pytest.mark.parametrize("failure", AWAY, ids=["unreachable", "503", "unreadable"])
async def test_login_away_while_the_token_lives(source: Maker, failure: Exception) -> None:
    """When a renewal fails, the token is used to its end; the login is tried again after a while."""
    service, clock = UserService(), OwnClock()
    tokens, other = source(service, clock=clock), source(service, clock=clock)
    token = await tokens.get()
    moved(clock, token, to=token.renew_at)
    service.fail = [failure, failure]
    assert (await tokens.get()).access == "a1"
    assert (await tokens.get()).access == "a1"
    assert (await other.get()).access == "a1"
    assert len(service.requests) == 2
    moved(clock, token, to=token.expires_at)
    with pytest.raises(type(failure)):
        await tokens.get()
    assert (await tokens.get()).access == "a4"


@pytest.mark.parametrize("failure", AWAY, ids=["unreachable", "503", "unreadable"])
async def test_login_away_after_a_refusal(source: Maker, db: Redis, failure: Exception) -> None:
    """A token that was refused is no stopgap: what went wrong with the login is said."""
    service = UserService()
    tokens = source(service)
    await tokens.get()
    before = await db.get(KEYS.token)
    service.fail = [failure]
    with pytest.raises(type(failure)):
        await tokens.renew("a1")
    assert await db.get(KEYS.token) == before
    assert not await db.exists(KEYS.token_lock)
    assert await renewed(tokens, "a1") == "a3"


async def test_refused_login_is_said_at_once(source: Maker, db: Redis) -> None:
    """Refused credentials are an error even while the old token lives: waiting does not mend them."""
    service, clock = UserService(), OwnClock()
    tokens = source(service, clock=clock)
    token = await tokens.get()
    moved(clock, token, to=token.renew_at)
    service.fail = [LoginRejected(401, "no")]
    with pytest.raises(LoginRejected):
        await tokens.get()
    assert not await db.exists(KEYS.token_lock)


async def test_a_refusal_is_shared_by_those_who_wait(source: Maker) -> None:
    """Four requests at the same time with a wrong secret are one login; the next request tries again."""
    service = UserService(fail=[LoginRejected(401, "wrong")] * 3)
    tokens = source(service)
    found = await asyncio.gather(*(tokens.get() for _ in range(4)), return_exceptions=True)
    assert [type(error) for error in found] == [LoginRejected] * 4
    assert len(service.requests) == 1
    with pytest.raises(LoginRejected):
        await tokens.get()
    assert len(service.requests) == 2


async def test_redis_away(source: Maker, own_server: Server) -> None:
    """Without Redis a new token is an error of Redis after a moment, not a login by each worker and no hang."""
    service = UserService()
    tokens = source(service, url=own_server.url)
    own_server.stop(kill=True)
    async with asyncio.timeout(8):
        with pytest.raises((redis.exceptions.RedisError, OSError)):
            await tokens.get()
    assert service.requests == []


async def test_credentials_are_read_anew_after_a_refusal(source: Maker) -> None:
    """After each refusal, and before the login that follows: a refused secret is not sent when there is another."""
    service = UserService(fail=[LoginRejected(401, "wrong")] * 3)
    there = [Credentials("client-1", secret, is_client=True) for secret in ("second-secret", "third-secret")]
    found: list[Credentials | None] = [None, None, there[0], there[1]]
    tokens = source(service, rotated=lambda: found.pop(0))
    with pytest.raises(LoginRejected):
        await tokens.get()  # nothing new at its source
    assert (await tokens.get()).access == "a4"  # nothing new before it, and then two rotations
    secrets = [request.body["clientSecret"] for request in service.requests]
    assert secrets == ["client-secret", "client-secret", "second-secret", "third-secret"]
    assert found == []
