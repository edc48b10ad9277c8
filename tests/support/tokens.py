"""Token sources, and a login service that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis

from tests.support.scripted_server import OwnClock
from worker.errors import LoginRejected
from worker.keys import Keys
from worker.ordermesh.http.auth import Credentials, LoginRequest, Token
from worker.ordermesh.http.token_cipher import TokenCipher
from worker.ordermesh.http.tokens import TokenSource

KEYS = Keys("default")
CLIENT = Credentials("client-1", "client-secret", is_client=True)


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


def cipher(*secret_keys: str) -> TokenCipher:
    return TokenCipher("http://gateway", KEYS.token, secret_keys)


async def stored(db: Redis, credentials: Credentials = CLIENT) -> Token:
    """The token in Redis, as a worker with these credentials reads it."""
    token = await cipher().decrypt(await db.get(KEYS.token), credentials)
    assert token is not None
    return token


async def renewed(tokens: TokenSource, rejected: str) -> str:
    """The token that takes the place of a refused one."""
    token = await tokens.renew(rejected)
    assert token is not None
    return token.access


def moved(clock: OwnClock, token: Token, *, to: float) -> None:
    """Move the clock to a second after `to`."""
    assert to <= token.expires_at
    clock.offset += to - clock.now() + 1
