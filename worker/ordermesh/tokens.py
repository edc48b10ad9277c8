"""The access token that all workers of an account share.

Single flight twice over: inside a process by a lock, across processes by a lock in Redis that only its owner
gives back. Who gets the lock reads the token again before logging in. A new token, and with it a rotated
refresh token, is in Redis before anybody uses it: a worker that dies right after cannot take it along.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import msgspec

from worker import scripts
from worker.errors import GatewayUnreachable, LoginRejected
from worker.logs import get_logger, redaction
from worker.ordermesh.auth import (
    RENEW_AFTER,
    Credentials,
    LoginRequest,
    Token,
    login_request,
    parse_token,
    renewal_request,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.keys import Keys

Login = Callable[[LoginRequest], Awaitable[bytes]]
"""Sends a login request and returns the body of a good answer; raises `LoginRejected` on a refusal."""

LOCK_SECONDS = 60.0
_KEEP_SECONDS = 30 * 86_400.0
_LOOK_AGAIN_SECONDS = 0.05

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Token).decode


class TokenSource:
    """Hands out a token that is good for a while, and renews it before it ends."""

    def __init__(
        self,
        *,
        redis: Redis,
        keys: Keys,
        credentials: Credentials,
        base_url: str,
        login: Login,
        clock: Clock,
    ) -> None:
        self._redis, self._keys, self._clock = redis, keys, clock
        self._credentials, self._login = credentials, login
        self._fingerprint = credentials.fingerprint(base_url)
        self._token: Token | None = None
        self._renewing = anyio.Lock()
        self._store = scripts.load(redis, "worker.ordermesh", "token_store")
        self._unlock = scripts.load(redis, "worker.ordermesh", "unlock")
        self.logins = 0
        self._log = get_logger(account=keys.account)
        redaction.add(credentials.secret)

    async def get(self) -> Token:
        """A token for the next request; logs in or renews when it is time."""
        token = self._token
        if token is not None and self._clock.now() < token.renew_at:
            return token
        return await self._renew(rejected=None)

    async def renew(self, rejected: str) -> Token:
        """Another token than the `rejected` one, which the server answered with 401."""
        return await self._renew(rejected=rejected)

    async def _renew(self, rejected: str | None) -> Token:
        async with self._renewing:
            owner = uuid.uuid4().hex
            while True:
                raw, token = await self._read()
                if token is not None and self._is_fresh(token, rejected):
                    return self._adopt(token)
                if await self._redis.set(self._keys.token_lock, owner, nx=True, px=int(LOCK_SECONDS * 1000)):
                    break
                if token is not None and token.access != rejected and self._clock.now() < token.expires_at:
                    return self._adopt(token, keep=False)  # another worker is renewing; this one still holds
                await self._clock.sleep(_LOOK_AGAIN_SECONDS)
            try:
                raw, token = await self._read()  # somebody may have been quicker
                if token is not None and self._is_fresh(token, rejected):
                    return self._adopt(token)
                new = await self._obtain(token)
                stored = await self._store(
                    keys=[self._keys.token, self._keys.token_lock],
                    args=[_encode(new), raw, owner, int(_KEEP_SECONDS * 1000)],
                )
                return self._adopt(_decode(stored))
            finally:
                with anyio.CancelScope(shield=True):
                    await self._unlock(keys=[self._keys.token_lock], args=[owner])

    async def _read(self) -> tuple[bytes, Token | None]:
        """The stored token as it stands, and decoded if it can be used by this login."""
        raw: bytes = await self._redis.get(self._keys.token) or b""
        try:
            token = _decode(raw) if raw else None
        except msgspec.DecodeError:
            token = None  # not written by this version: replaced by the next login
        return raw, token if token is not None and token.login == self._fingerprint else None

    def _is_fresh(self, token: Token, rejected: str | None) -> bool:
        return token.access != rejected and self._clock.now() < token.renew_at

    def _adopt(self, token: Token, *, keep: bool = True) -> Token:
        redaction.add(token.access, token.refresh)
        if keep:
            self._token = token
        return token

    async def _obtain(self, previous: Token | None) -> Token:
        request = renewal_request(self._credentials, previous)
        try:
            body = await self._login(request)
        except LoginRejected:
            if request.operation != "users.refresh":
                raise
            # The refresh token is used up or withdrawn (a logout, a new password): start anew.
            request = login_request(self._credentials)
            body = await self._login(request)
        except GatewayUnreachable:
            # A token in the last part of its life is better than none; the login is tried again later.
            now = self._clock.now()
            if previous is None or now >= previous.expires_at:
                raise
            return msgspec.structs.replace(previous, renew_at=min(now + 30, previous.expires_at))
        self.logins += 1
        token = parse_token(
            request,
            body,
            now=self._clock.now(),
            share=self._clock.uniform(*RENEW_AFTER),
            login=self._fingerprint,
            previous=previous,
        )
        redaction.add(token.access, token.refresh)
        self._log.info(
            "logged_in", operation=request.operation, lifetime_s=round(token.expires_at - self._clock.now())
        )
        return token
