"""Login without I/O: what to send for each kind of credentials, and what an answer means.

Production integrations use client credentials: a token of about 24 hours without a refresh, so log in
again. User logins are for development: 900 seconds and a refresh token that may be rotated. The lifetime is
always taken from the answer (docs/reference/api-facts.md, 1.2).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from worker.errors import SettingsError, UnreadableAnswer

if TYPE_CHECKING:
    from worker.config.sections import ApiSettings

CLIENT_LIFETIME = 86_400.0
USER_LIFETIME = 900.0
"""Seconds that a token lives when the answer does not say it."""

RENEW_AFTER = (0.75, 0.9)
"""A token is renewed at a random point of this share of its life, so that workers do not all come at once."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """One of the two logins: a service client, or a user."""

    name: str
    secret: str
    is_client: bool

    def __repr__(self) -> str:
        return f"Credentials(name={self.name!r}, is_client={self.is_client})"

    def fingerprint(self, base_url: str) -> str:
        """Tells tokens of one login from those of another without giving away the secret."""
        text = "\0".join((base_url, self.name, self.secret, str(self.is_client)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Token(msgspec.Struct, frozen=True):
    """An access token and what is known of its life. Times in seconds since 1970."""

    access: str
    expires_at: float
    renew_at: float
    login: str
    refresh: str | None = None
    issued_at: float = 0.0

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at}, renew_at={self.renew_at})"


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """An operation of the user service, and the body and the query parameters to send to it."""

    operation: str
    body: dict[str, str] = field(repr=False)
    query: dict[str, str] = field(default_factory=dict)


class _TokenAnswer(msgspec.Struct):
    # Older guides show snake case for the client token (docs/reference/api-facts.md, 1.2), so both are read.
    accessToken: str | None = None  # noqa: N815 - as served
    access_token: str | None = None
    refreshToken: str | None = None  # noqa: N815 - as served
    refresh_token: str | None = None
    expiresIn: float | None = None  # noqa: N815 - as served
    expires_in: float | None = None


# Not strict: a lifetime may be written as text.
_decode = msgspec.json.Decoder(_TokenAnswer, strict=False).decode


def credentials_of(api: ApiSettings) -> Credentials:
    """The login that the settings hold; a service client wins over a user."""
    if api.client_id and api.client_secret:
        return Credentials(api.client_id, api.client_secret.get_secret_value(), is_client=True)
    if api.username and api.password:
        return Credentials(api.username, api.password.get_secret_value(), is_client=False)
    raise SettingsError(
        "No login for OrderMesh. Set ORDERSYNC_API__CLIENT_ID and ORDERSYNC_API__CLIENT_SECRET."
    )


def login_request(credentials: Credentials) -> LoginRequest:
    """Log in with id and secret, or with user and password."""
    if credentials.is_client:
        return LoginRequest(
            "clients.token", {"clientId": credentials.name, "clientSecret": credentials.secret}
        )
    return LoginRequest("users.login", {"username": credentials.name, "password": credentials.secret})


def renewal_request(credentials: Credentials, token: Token | None) -> LoginRequest:
    """How to get the next token: by refresh where there is one to refresh with, else by a new login."""
    if token is not None and token.refresh and not credentials.is_client:
        return LoginRequest("users.refresh", {"refreshToken": token.refresh})
    return login_request(credentials)


def parse_token(
    request: LoginRequest, body: bytes, *, now: float, share: float, login: str, previous: Token | None
) -> Token:
    """The token of an answer that was received at `now`, to be renewed after `share` of its life.

    Raises:
        UnreadableAnswer: There is no access token in it that a header can carry.

    """
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnreadableAnswer(
            request.operation, f"the response to the login cannot be read: {error}"
        ) from None
    access = answer.accessToken or answer.access_token
    if not access:
        raise UnreadableAnswer(request.operation, "the response to the login has no accessToken")
    if not access.isascii() or not access.isprintable() or " " in access:
        raise UnreadableAnswer(
            request.operation, "the accessToken contains characters that are not allowed in a header"
        )
    is_client = request.operation == "clients.token"
    lifetime = answer.expiresIn or answer.expires_in or 0.0
    if not (lifetime > 0 and math.isfinite(lifetime)):
        lifetime = CLIENT_LIFETIME if is_client else USER_LIFETIME
    # A refresh that brings no new refresh token leaves the old one in force. A client token's is never
    # used: the vendor says that there is no refresh flow for it.
    refresh = answer.refreshToken or answer.refresh_token
    if not refresh and previous and request.operation == "users.refresh":
        refresh = previous.refresh
    return Token(
        access=access,
        expires_at=now + lifetime,
        renew_at=now + lifetime * share,
        login=login,
        refresh=None if is_client else refresh,
        issued_at=now,
    )
