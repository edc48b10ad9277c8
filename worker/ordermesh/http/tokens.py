"""The access token that all workers of an account share.

Only one login runs at a time: within a process because of a lock, across processes because of a lock in Redis, which
only its owner can release. The owner reads the token again before it logs in. A new token, with its rotated refresh
token, is stored in Redis before any worker uses it, so it is not lost if the worker crashes right afterwards. What is
stored is encrypted (`token_cipher.py`).

A refused token leads to one fresh login. If the gateway refuses the new token as well, the next login waits, so that a
gateway that answers 401 or 403 to everything causes neither a storm of logins nor a day of failure.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import msgspec
import redis.exceptions

from worker.backoff import Backoff
from worker.cancellation import finish, plain_errors
from worker.errors import GatewayUnreachable, LoginRejected, OrderMeshError
from worker.ordermesh.http.auth import (
    MAX_LIFETIME,
    RENEW_AFTER,
    Credentials,
    LoginRequest,
    Token,
    login_request,
    parse_token,
    renewal_request,
)
from worker.ordermesh.http.token_cipher import TokenCipher
from worker.redis import scripts
from worker.redis.connections import answer
from worker.telemetry.log import get_logger, redaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.keys import Keys

Login = Callable[[LoginRequest], Awaitable[bytes]]
"""Sends a login request and returns the body of a successful response; raises `LoginRejected` on a refusal."""

LOCK_SECONDS = 10.0
"""Seconds after which the lock of a crashed owner expires. A running owner extends it as long as it needs it."""
LOGIN_BACKOFF = Backoff(first=60, most=600)
"""Seconds between logins while the gateway refuses each token that it has just issued."""
DENIED_SECONDS = 600.0
"""Age in seconds from which a token that only gets 403 is replaced: its permissions may be those of an earlier time."""
_KEEP_SECONDS = 30 * 86_400.0
_POLL_SECONDS = 0.05
_RETRY_SECONDS = 30.0


class TokenSource:
    """Returns a valid token, and renews it before it expires.

    Args:
        redis: Where the token is stored.
        keys: The keys of the account.
        credentials: The login.
        base_url: The gateway.
        login: Sends a login.
        clock: What lifetimes go by.
        rotated: Returns the credentials if they have changed at their source, otherwise None. It is called after a
            refusal and before the login that follows one, so that a secret rotated on disk is used at once.
        secret_keys: The secret keys that encrypt the token, newest first; the secret of the login if there are none.

    """

    def __init__(
        self,
        *,
        redis: Redis,
        keys: Keys,
        credentials: Credentials,
        base_url: str,
        login: Login,
        clock: Clock,
        rotated: Callable[[], Credentials | None] = lambda: None,
        secret_keys: Sequence[str] = (),
    ) -> None:
        self._redis, self._keys, self._clock = redis, keys, clock
        self._credentials, self._login = credentials, login
        self._cipher = TokenCipher(base_url, keys.token, secret_keys)
        self._unreadable = b""
        self._refusals, self._next_login_at, self._denials = 0, 0.0, 0
        self._rotated, self._refused = rotated, False
        self._token: Token | None = None
        self._renewing = anyio.Lock()
        self._login_refused: LoginRejected | None = None
        self._store = scripts.load(redis, "worker.ordermesh", "token_store")
        self._keep_lock = scripts.load(redis, "worker.ordermesh", "keep_lock")
        self._unlock = scripts.load(redis, "worker.ordermesh", "unlock")
        self.logins = 0
        self._log = get_logger(account=keys.account)
        redaction.add(credentials.secret)

    @property
    def is_refused(self) -> bool:
        """True while the next login has to wait, because the gateway has refused tokens that it had just issued."""
        return bool(self._refusals)

    async def get(self) -> Token:
        """Return a token for the next request; log in or renew it if that is due."""
        token = self._token
        if token is not None and self._clock.now() < token.renew_at:
            return token
        return await self._renew(rejected=None)

    async def renew(self, rejected: str) -> Token | None:
        """Return another token than the `rejected` one, which the server answered with 401.

        None if there is no other, and the next login has to wait since the last ones gave tokens that were refused.
        """
        if self._clock.now() >= self._next_login_at:
            return await self._renew(rejected=rejected)
        _, token = await self._read()
        return self._adopt(token) if token is not None and self._is_fresh(token, rejected) else None

    async def renew_denied(self, denied: Token) -> Token | None:
        """Return another token than one that got a 403; None if a login would not help or was tried lately.

        A 403 is a normal answer to an operation that the client may not use. It is one about the token if nothing has
        succeeded since the last 403, and the token is old.
        """
        self._denials += 1
        if self._denials < 2 or self._clock.now() - denied.issued_at < DENIED_SECONDS:
            return None
        return await self.renew(denied.access)

    def accepted(self) -> None:
        """Take note that the gateway has accepted the token."""
        self._refusals, self._next_login_at, self._denials = 0, 0.0, 0

    def refused(self) -> None:
        """Take note that the gateway has refused a token that it had just issued: the next login waits."""
        if self._clock.now() >= self._next_login_at:
            self._refusals += 1
            self._next_login_at = self._clock.now() + LOGIN_BACKOFF.pause(self._refusals, self._clock)

    async def _renew(self, rejected: str | None) -> Token:
        before = self._login_refused
        async with self._renewing:
            if self._login_refused is not None and self._login_refused is not before:
                raise self._login_refused  # while this caller waited: the same login again would be refused as well
            _, token = await self._read()
            if token is not None and self._is_fresh(token, rejected):
                return self._adopt(token)
            async with self._lock() as owner:
                while not await self._acquire(owner):
                    _, token = await self._read()
                    if token is not None and self._is_fresh(token, rejected):
                        return self._adopt(token)
                    if token is not None and self._is_alive(token, rejected):
                        return self._adopt(
                            token, keep=False
                        )  # another worker renews it; it is valid meanwhile
                    await self._clock.sleep(_POLL_SECONDS)
                raw, token = await self._read()  # another worker may have stored one meanwhile
                if token is not None and self._is_fresh(token, rejected):
                    return self._adopt(token)
                try:
                    new = await self._obtain(token, rejected)
                except LoginRejected as error:
                    self._login_refused = error
                    raise
                stored = await finish(
                    self._store(
                        keys=[self._keys.token, self._keys.token_lock],
                        args=[
                            await self._cipher.encrypt(new, self._credentials),
                            raw,
                            owner,
                            self._kept_ms(new),
                        ],
                    )
                )
                return self._adopt(await self._cipher.decrypt(stored, self._credentials) or new)

    @asynccontextmanager
    async def _lock(self) -> AsyncIterator[str]:
        """Yield an owner name for the lock in Redis; extend the lock until the block ends, then release it."""
        owner = uuid.uuid4().hex
        try:
            with plain_errors():
                async with anyio.create_task_group() as group:
                    group.start_soon(self._keep_locked, owner)
                    yield owner
                    group.cancel_scope.cancel()
        finally:
            try:
                await finish(self._unlock(keys=[self._keys.token_lock], args=[owner]))
            except (redis.exceptions.RedisError, OSError) as error:
                self._log.debug("token_lock_not_released", error=str(error))

    async def _acquire(self, owner: str) -> bool:
        call = self._redis.set(self._keys.token_lock, owner, nx=True, px=int(LOCK_SECONDS * 1000))
        return bool(await finish(answer(call)))

    async def _keep_locked(self, owner: str) -> None:
        while True:
            await self._clock.sleep(LOCK_SECONDS / 3)
            try:
                await self._keep_lock(keys=[self._keys.token_lock], args=[owner, int(LOCK_SECONDS * 1000)])
            except (redis.exceptions.RedisError, OSError) as error:
                # Another worker may log in too; the script that stores the token resolves the conflict.
                self._log.debug("token_lock_not_held", error=str(error))

    async def _read(self) -> tuple[bytes, Token | None]:
        """Return the stored bytes, and the token if it belongs to this login."""
        raw: bytes = await self._redis.get(self._keys.token) or b""
        token = await self._cipher.decrypt(raw, self._credentials) if raw else None
        if raw and token is None and raw != self._unreadable:
            self._log.warning("token_not_readable")
            self._unreadable = raw
        return raw, token

    def _kept_ms(self, token: Token) -> int:
        """Return for how many milliseconds Redis keeps a token: a refresh token may outlive the access token."""
        seconds = _KEEP_SECONDS if token.refresh else max(token.expires_at - self._clock.now(), 1.0)
        return int(seconds * 1000)

    def _is_fresh(self, token: Token, rejected: str | None) -> bool:
        now = self._clock.now()  # which may have been put back
        return token.access != rejected and now < token.renew_at <= now + MAX_LIFETIME

    def _is_alive(self, token: Token, rejected: str | None) -> bool:
        return token.access != rejected and self._clock.now() < token.expires_at

    def _adopt(self, token: Token, *, keep: bool = True) -> Token:
        redaction.add_passing(token.access, token.refresh)
        if keep:
            self._token = token
        return token

    async def _obtain(self, previous: Token | None, rejected: str | None) -> Token:
        try:
            if rejected is not None:
                return await self._enter(previous)  # the session of a refused token is over
            return await self._log_in(previous)
        except LoginRejected:
            raise
        except OrderMeshError:
            # The previous token is still valid, so use it and retry the login later.
            if previous is None or not self._is_alive(previous, rejected):
                raise
            retry_at = min(self._clock.now() + _RETRY_SECONDS, previous.expires_at)
            return msgspec.structs.replace(previous, renew_at=retry_at)

    async def _log_in(self, previous: Token | None) -> Token:
        request = renewal_request(self._credentials, previous)
        if request.operation == "users.refresh":
            try:
                return await self._send(request, previous)
            except GatewayUnreachable:
                raise
            except OrderMeshError as error:
                # The refresh token is used up or revoked, or this gateway has no refresh: log in again.
                self._log.info("refresh_refused", reason=str(error))
        return await self._enter(previous)

    async def _enter(self, previous: Token | None) -> Token:
        """Log in; with credentials that are read anew if these, or those of the last login, were refused."""
        if self._refused:
            self._take_rotated()
        while True:
            try:
                token = await self._send(login_request(self._credentials), previous)
            except LoginRejected:
                self._refused = True
                if not self._take_rotated():
                    raise
            else:
                self._refused = False
                return token

    def _take_rotated(self) -> bool:
        """Use the credentials that have changed at their source; return False if they have not."""
        credentials = self._rotated()
        if credentials is not None:
            self._credentials = credentials
        return credentials is not None

    async def _send(self, request: LoginRequest, previous: Token | None) -> Token:
        body = await self._login(request)
        self.logins += 1
        token = parse_token(
            request,
            body,
            now=self._clock.now(),
            share=self._clock.uniform(*RENEW_AFTER),
            previous=previous,
        )
        redaction.add_passing(token.access, token.refresh)
        self._log.info(
            "logged_in", operation=request.operation, lifetime_s=round(token.expires_at - self._clock.now())
        )
        return token
