"""The token in Redis: refresh tokens, and what a worker makes of what it finds there."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest
import redis.exceptions
from pydantic import SecretStr
from redis.asyncio import Redis

from tests.support.scripted_server import OwnClock, at_work
from tests.support.servers import Server
from tests.support.tokens import CLIENT, KEYS, Maker, UserService, cipher, moved, renewed, stored
from tests.support.waiting import eventually
from tests.support.worker import account_for
from worker.config.sections import ApiSettings
from worker.errors import ApiError, ServerError, UnreadableAnswer
from worker.ordermesh.http.auth import Credentials, Token
from worker.ordermesh.http.usage import Usage
from worker.sandbox import Lifetimes, SandboxServer

pytestmark = pytest.mark.anyio

USER = Credentials("joe@example.com", "user-password", is_client=False)


# Users: refresh tokens


async def test_rotated_refresh_token_is_stored_first(source: Maker, db: Redis) -> None:
    """Before anybody can use a new access token, it and its refresh token stand in Redis."""
    service, clock = UserService(), OwnClock()
    tokens = source(service, USER, clock)
    token = await tokens.get()
    moved(clock, token, to=token.renew_at)
    token = await tokens.get()
    assert (token.access, token.refresh) == ("a2", "r2")
    assert await stored(db, USER) == token
    # Another process goes on from there.
    moved(clock, token, to=token.renew_at)
    assert (await source(service, USER, clock).get()).access == "a3"
    assert service.operations == ["users.login", "users.refresh", "users.refresh"]
    assert [request.body.get("refreshToken") for request in service.requests] == [None, "r1", "r2"]


async def test_no_token_is_used_that_could_not_be_stored(source: Maker, own_server: Server) -> None:
    """When Redis is gone by the time the login answers, the new token is not used: it would be lost."""
    service = UserService(gate=asyncio.Event())
    assert service.gate is not None
    tokens = source(service, USER, url=own_server.url)
    call = asyncio.create_task(tokens.get())
    await eventually(lambda: service.requests)
    own_server.stop(kill=True)
    service.gate.set()
    with pytest.raises((redis.exceptions.RedisError, OSError)):
        await call
    assert tokens._token is None


async def test_refused_refresh_token_means_login(source: Maker, db: Redis) -> None:
    """A refresh token that is used up or withdrawn is followed by a login with the password."""
    service, clock = UserService(), OwnClock()
    tokens = source(service, USER, clock)
    token = await tokens.get()
    service.good_refresh = "withdrawn"
    moved(clock, token, to=token.renew_at)
    assert (await tokens.get()).access == "a3"
    assert service.operations == ["users.login", "users.refresh", "users.login"]
    assert (await stored(db, USER)).refresh == "r3"


@pytest.mark.parametrize(
    "failure",
    [ApiError("users.refresh", 405, ""), ServerError("users.refresh", 500, ""), UnreadableAnswer("x", "y")],
    ids=["405", "500", "unreadable"],
)
async def test_refresh_that_is_not_served(source: Maker, failure: Exception) -> None:
    """The path of the refresh is inferred: where the gateway does not serve it, the password does."""
    service, clock = UserService(), OwnClock()
    tokens = source(service, USER, clock)
    token = await tokens.get()
    service.fail.append(failure)
    moved(clock, token, to=token.renew_at)
    assert (await tokens.get()).access == "a3"
    assert service.operations == ["users.login", "users.refresh", "users.login"]


async def test_refresh_at_the_sandbox(redis_url: str) -> None:
    """Both logins and the rotation as the vendor describes them, over HTTP."""
    clock = OwnClock()
    with SandboxServer(lifetimes=Lifetimes(user=900)) as sandbox:
        login = sandbox.options.credentials
        api = ApiSettings(base_url=sandbox.url, username=login.username, password=SecretStr(login.password))
        account = msgspec.structs.replace(account_for(sandbox), api=api)
        async with at_work(account, redis_url, clock) as desk:
            for _ in range(3):
                await desk.client.read_page("orders.search", 0, 1, Usage())
                clock.offset += 850
            sandbox.auth.revoke()
            await desk.client.read_page("orders.search", 0, 1, Usage())
        assert sandbox.requests.count("users.login", 200) == 2
        assert sandbox.requests.count("users.refresh", 200) == 2


# What is stored


async def test_another_logins_token_is_not_used(source: Maker, db: Redis) -> None:
    """After the credentials were changed, the token of the old ones is replaced."""
    service = UserService()
    await source(service).get()
    changed = Credentials("client-1", "new-secret", is_client=True)
    tokens = source(service, changed)
    assert (await tokens.get()).access == "a2"
    assert (await stored(db, changed)).access == "a2"


async def test_another_logins_token_is_not_used_either_when_it_comes_late(source: Maker, db: Redis) -> None:
    """A token that a worker with other credentials stored during our login is theirs: we use our own."""
    service = UserService(gate=asyncio.Event())
    assert service.gate is not None
    call = asyncio.create_task(source(service).get())
    await eventually(lambda: service.requests)
    theirs = Token("theirs", time.time() + 500, time.time() + 400)
    await db.set(KEYS.token, await cipher().encrypt(theirs, USER))
    service.gate.set()
    assert (await call).access == "a1"
    assert (await stored(db, USER)).access == "theirs"


async def test_a_token_stored_meanwhile_wins(source: Maker, db: Redis) -> None:
    """When our lock was lost and another worker stored a token first, that one is kept and used."""
    service = UserService(gate=asyncio.Event())
    assert service.gate is not None
    tokens = source(service)
    call = asyncio.create_task(tokens.get())
    await eventually(lambda: service.requests)
    newer = Token("newer", time.time() + 500, time.time() + 400)
    await db.set(KEYS.token, await cipher().encrypt(newer, CLIENT))
    service.gate.set()
    assert (await call).access == "newer"
    assert (await stored(db)) == newer


async def test_a_token_that_vanished_meanwhile(source: Maker, db: Redis) -> None:
    """When the stored token is lost while it is renewed (a flush, a failover), the new one is stored."""
    service, clock = UserService(), OwnClock()
    tokens = source(service, clock=clock)
    token = await tokens.get()
    service.gate = asyncio.Event()
    call = asyncio.create_task(renewed(tokens, token.access))
    await eventually(lambda: len(service.requests) == 2)
    await db.flushall()
    service.gate.set()
    assert await call == "a2"
    assert (await stored(db)).access == "a2"


@pytest.mark.parametrize("raw", [b"\x00\xff", b"{}", b"[1]", b'{"access":1}', b'{"x":' * 50_000])
async def test_unreadable_token_is_replaced(source: Maker, db: Redis, raw: bytes) -> None:
    """What cannot be read as a token was not written by this version and is replaced."""
    await db.set(KEYS.token, raw)
    assert (await source(UserService()).get()).access == "a1"
    assert (await stored(db)).access == "a1"


async def test_the_token_does_not_stay_for_ever(source: Maker, db: Redis) -> None:
    """An account that is given up leaves no token behind for good."""
    await source(UserService()).get()
    assert 0 < await db.ttl(KEYS.token) <= 31 * 86_400
