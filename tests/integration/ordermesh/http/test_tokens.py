"""The token that all workers share: one login for all, nothing lost, nothing stale."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import msgspec
import pytest
import redis.exceptions
from pydantic import SecretStr
from redis.asyncio import Redis

from tests.support.scripted_server import OwnClock, at_work
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.support.worker import account_for
from worker.clock import Clock
from worker.config.sections import ApiSettings
from worker.errors import ApiError, GatewayUnreachable, LoginRejected, ServerError, UnreadableAnswer
from worker.keys import Keys
from worker.ordermesh.client import Usage
from worker.ordermesh.http.auth import RENEW_AFTER, Credentials, LoginRequest, Token
from worker.ordermesh.http.tokens import LOCK_SECONDS, TokenSource
from worker.redis.connections import connect
from worker.sandbox import Lifetimes, SandboxServer

pytestmark = pytest.mark.anyio

KEYS = Keys("default")
CLIENT = Credentials("client-1", "client-secret", is_client=True)
USER = Credentials("joe@example.com", "user-password", is_client=False)


@dataclass
class UserService:
    """Gives out tokens a1, a2, ... with refresh tokens r1, r2, ..., each good for one refresh.

    `fail` holds what the next logins raise. When `gate` is set, a login waits there for the test.
    """

    lifetime: float = 1_000.0
    rotates: bool = True
    gate: asyncio.Event | None = None
    fail: list[Exception] = field(default_factory=list)
    requests: list[LoginRequest] = field(default_factory=list)
    good_refresh: str = ""

    @property
    def operations(self) -> list[str]:
        """What was asked for, in order."""
        return [request.operation for request in self.requests]

    async def __call__(self, request: LoginRequest) -> bytes:
        """One login."""
        self.requests.append(request)
        number = len(self.requests)
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.fail:
            raise self.fail.pop(0)
        if request.operation == "users.refresh" and request.body["refreshToken"] != self.good_refresh:
            raise LoginRejected(401, "spent")
        answer: dict[str, Any] = {"accessToken": f"a{number}", "expiresIn": self.lifetime}
        if request.operation == "users.login" or (self.rotates and request.operation == "users.refresh"):
            self.good_refresh = f"r{number}"
            answer["refreshToken"] = self.good_refresh
        return msgspec.json.encode(answer)


Maker = Callable[..., TokenSource]


@pytest.fixture
async def source(redis_url: str) -> AsyncIterator[Maker]:
    """Makes token sources, each with a Redis client of its own, as so many processes would have."""
    async with AsyncExitStack() as stack:

        def make(
            login: UserService,
            credentials: Credentials = CLIENT,
            clock: Clock | None = None,
            url: str = redis_url,
            rotated: Callable[[], Credentials | None] = lambda: None,
        ) -> TokenSource:
            client = connect(url)
            stack.push_async_callback(client.aclose)
            return TokenSource(
                redis=client,
                keys=KEYS,
                credentials=credentials,
                base_url="http://gateway",
                login=login,
                clock=clock or OwnClock(),
                rotated=rotated,
            )

        yield make


@pytest.fixture
async def db(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


async def stored(db: Redis) -> Token:
    return msgspec.json.decode(await db.get(KEYS.token), type=Token)


def moved(clock: OwnClock, token: Token, *, to: float) -> None:
    """Move the clock to a second after `to`."""
    assert to <= token.expires_at
    clock.offset += to - clock.now() + 1


# Single flight


async def test_one_login_for_a_hundred_callers(source: Maker, db: Redis) -> None:
    """A hundred callers at once inside a process cost one login and get the same token.

    They do not fight for the lock in Redis either: one takes it, for all.
    """
    service = UserService()
    tokens = source(service)
    await db.config_resetstat()
    got = await asyncio.gather(*(tokens.get() for _ in range(100)))
    assert {token.access for token in got} == {"a1"}
    assert len(service.requests) == tokens.logins == 1
    assert (await db.info("commandstats"))["cmdstat_set"]["calls"] == 2  # the lock, and the token


async def test_one_login_for_many_workers(source: Maker, db: Redis) -> None:
    """Workers that start together cost one login; the lock is gone afterwards."""
    service = UserService()
    workers = [source(service) for _ in range(8)]
    got = await asyncio.gather(*(worker.get() for worker in workers for _ in range(5)))
    assert {token.access for token in got} == {"a1"}
    assert len(service.requests) == 1
    assert not await db.exists(KEYS.token_lock)


async def test_one_renewal_for_many_rejections(source: Maker) -> None:
    """When all workers' requests are refused at once, one of them renews and the others take its token."""
    service = UserService()
    workers = [source(service) for _ in range(6)]
    await asyncio.gather(*(worker.get() for worker in workers))
    got = await asyncio.gather(*(worker.renew("a1") for worker in workers for _ in range(5)))
    assert {token.access for token in got} == {"a2"}
    assert len(service.requests) == 2


PROGRAM = """
import asyncio, sys
from pydantic import SecretStr
from worker.telemetry import log as logs
from worker.app import open_services
from worker.clock import SystemClock
from worker.ordermesh.client import Usage
from worker.sandbox import CLIENT_ID, CLIENT_SECRET
from worker.config.sections import Account, ApiSettings

async def main(gateway, redis_url):
    logs.configure("json", "warning")
    api = ApiSettings(base_url=gateway, client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET))
    account = Account(name="default", api=api, intervals={}, ignore_fields={})
    async with open_services([account], redis_url, SystemClock()) as place:
        print("ready", flush=True)
        sys.stdin.readline()
        client = place.accounts["default"].client
        await asyncio.gather(*(client.tokens.get() for _ in range(10)))
        await client.read_page("orders.search", 0, 1, Usage())
        print((await client.tokens.get()).access, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_one_login_for_several_processes(redis_url: str, sandbox: SandboxServer) -> None:
    """Real processes that come for a token at the same moment cost one login."""
    programs = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, sandbox.url, redis_url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for program in programs:
        assert program.stdout is not None
        assert await program.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(program.communicate(b"\n") for program in programs))
    assert len({out for out, _ in answers}) == 1
    assert [program.returncode for program in programs] == [0, 0, 0]
    assert (sandbox.auth.issued, sandbox.requests.count("clients.token")) == (1, 1)


# The lock


async def test_the_lock_is_given_back_by_its_owner_only(source: Maker, db: Redis) -> None:
    """Whoever lost the lock meanwhile does not take it from its new owner."""
    service = UserService(gate=asyncio.Event())
    assert service.gate is not None
    call = asyncio.create_task(source(service).get())
    await eventually(lambda: service.requests)
    await db.set(KEYS.token_lock, "somebody-else")
    service.gate.set()
    await call
    assert await db.get(KEYS.token_lock) == b"somebody-else"


async def test_the_lock_of_a_dead_owner_runs_out(source: Maker, db: Redis) -> None:
    """A worker killed while it logged in holds up the others until its lock runs out, and no longer."""
    service = UserService()
    began = time.monotonic()
    await db.set(KEYS.token_lock, "dead", px=150)
    assert (await source(service).get()).access == "a1"
    assert time.monotonic() - began > 0.1
    assert LOCK_SECONDS <= 10  # a killed worker's successor is to go on within 15 s


async def test_the_lock_runs_out_by_itself(source: Maker, db: Redis) -> None:
    """While it is held, the lock has an end, so that nobody has to clean up after a kill."""
    service = UserService(gate=asyncio.Event())
    assert service.gate is not None
    call = asyncio.create_task(source(service).get())
    await eventually(lambda: service.requests)
    assert 0 < await db.pttl(KEYS.token_lock) <= LOCK_SECONDS * 1000
    service.gate.set()
    await call


class BeatingClock(OwnClock):
    """A clock whose lock heartbeat goes on when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.beat = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait for the test, where the heartbeat waits."""
        if seconds == LOCK_SECONDS / 3:
            await self.beat.wait()
            self.beat.clear()
        else:
            await super().sleep(seconds)


async def test_a_slow_login_keeps_its_lock(source: Maker, db: Redis) -> None:
    """A login that takes longer than the lock lasts is still the only one: its owner holds the lock on."""
    service, clock = UserService(gate=asyncio.Event()), BeatingClock()
    assert service.gate is not None
    call = asyncio.create_task(source(service, clock=clock).get())
    await eventually(lambda: service.requests)
    await db.pexpire(KEYS.token_lock, 1_000)
    clock.beat.set()

    async def held_on() -> bool:
        return bool(await db.pttl(KEYS.token_lock) > 5_000)

    await eventually(held_on)
    service.gate.set()
    await call


async def test_nobody_holds_on_to_a_lost_lock(source: Maker, db: Redis) -> None:
    """The heartbeat prolongs its own lock, never that of another worker."""
    service, clock = UserService(gate=asyncio.Event()), BeatingClock()
    assert service.gate is not None
    call = asyncio.create_task(source(service, clock=clock).get())
    await eventually(lambda: service.requests)
    await db.set(KEYS.token_lock, "somebody-else", px=1_000)
    clock.beat.set()
    await eventually(lambda: not clock.beat.is_set())
    service.gate.set()
    await call
    assert 0 < await db.pttl(KEYS.token_lock) <= 1_000


async def test_the_token_is_read_again_under_the_lock(source: Maker, db: Redis) -> None:
    """Whoever waited for the lock takes the token that was stored meanwhile instead of logging in."""
    service = UserService()
    first = source(service)
    await first.get()
    raw = await db.get(KEYS.token)
    await db.delete(KEYS.token)
    late = source(service)
    acquire = late._acquire

    async def slowly(owner: str) -> bool:
        done = await acquire(owner)
        await db.set(KEYS.token, raw)
        return done

    late._acquire = slowly  # type: ignore[method-assign] # the other worker comes just before the lock
    assert (await late.get()).access == "a1"
    assert len(service.requests) == 1


async def test_a_cancelled_caller_leaves_no_lock(source: Maker, db: Redis) -> None:
    """Cancelled at any moment, by a scope or directly, a caller gives the lock back; the next one logs in."""
    service = UserService()
    for turns in range(30):
        tokens = source(service)
        call = asyncio.create_task(tokens.renew("a0"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert not await db.exists(KEYS.token_lock)
        await db.delete(KEYS.token)


async def test_a_cancelled_scope_leaves_no_lock(source: Maker, db: Redis) -> None:
    """A task group that ends while a login is under way gives the lock back, although its scope is cancelled."""
    service = UserService(gate=asyncio.Event())
    tokens = source(service)
    async with anyio.create_task_group() as group:
        group.start_soon(tokens.get)
        await eventually(lambda: service.requests)
        assert await db.exists(KEYS.token_lock)
        group.cancel_scope.cancel()
    assert not await db.exists(KEYS.token_lock)


# Users: refresh tokens


async def test_rotated_refresh_token_is_stored_first(source: Maker, db: Redis) -> None:
    """Before anybody can use a new access token, it and its refresh token stand in Redis."""
    service, clock = UserService(), OwnClock()
    tokens = source(service, USER, clock)
    token = await tokens.get()
    moved(clock, token, to=token.renew_at)
    token = await tokens.get()
    assert (token.access, token.refresh) == ("a2", "r2")
    assert await stored(db) == token
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
    assert (await stored(db)).refresh == "r3"


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
        account = replace(account_for(sandbox), api=api)
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
    assert (await stored(db)).login == changed.fingerprint("http://gateway")


async def test_another_logins_token_is_not_used_either_when_it_comes_late(source: Maker, db: Redis) -> None:
    """A token that a worker with other credentials stored during our login is theirs: we use our own."""
    service = UserService(gate=asyncio.Event())
    assert service.gate is not None
    call = asyncio.create_task(source(service).get())
    await eventually(lambda: service.requests)
    theirs = Token("theirs", time.time() + 500, time.time() + 400, "other-login")
    await db.set(KEYS.token, msgspec.json.encode(theirs))
    service.gate.set()
    assert (await call).access == "a1"
    assert (await stored(db)).access == "theirs"


async def test_a_token_stored_meanwhile_wins(source: Maker, db: Redis) -> None:
    """When our lock was lost and another worker stored a token first, that one is kept and used."""
    service = UserService(gate=asyncio.Event())
    assert service.gate is not None
    tokens = source(service)
    call = asyncio.create_task(tokens.get())
    await eventually(lambda: service.requests)
    newer = Token("newer", time.time() + 500, time.time() + 400, CLIENT.fingerprint("http://gateway"))
    await db.set(KEYS.token, msgspec.json.encode(newer))
    service.gate.set()
    assert (await call).access == "newer"
    assert (await stored(db)) == newer


async def test_a_token_that_vanished_meanwhile(source: Maker, db: Redis) -> None:
    """When the stored token is lost while it is renewed (a flush, a failover), the new one is stored."""
    service, clock = UserService(), OwnClock()
    tokens = source(service, clock=clock)
    token = await tokens.get()
    service.gate = asyncio.Event()
    call = asyncio.create_task(tokens.renew(token.access))
    await eventually(lambda: len(service.requests) == 2)
    await db.flushall()
    service.gate.set()
    assert (await call).access == "a2"
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


# Time


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
    refused = asyncio.create_task(other.renew("a1"))
    await asyncio.wait([refused], timeout=0.05)
    assert not refused.done()
    service.gate.set()
    assert [(await each).access for each in (call, refused)] == ["a2", "a2"]
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
    assert (await tokens.renew("a1")).access == "a3"


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
