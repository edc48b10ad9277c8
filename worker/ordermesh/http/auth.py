"""The requests of a login and the parsing of their responses. No I/O.

Production integrations use client credentials: the token lives about 24 hours and cannot be refreshed, so the worker
logs in again. User logins are for development: the token lives 900 seconds, and its refresh token may be rotated. The
lifetime in the response takes precedence (docs/reference/api-facts.md, 1.2). Older guides show the fields of a client's
token in snake case, so both spellings are read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from ordersync_consumer.redaction import words_of
from worker.errors import SettingsError, UnreadableAnswer

if TYPE_CHECKING:
    from worker.config.sections import ApiSettings

CLIENT_LIFETIME = 86_400.0
USER_LIFETIME = 900.0
"""Lifetimes of a token in seconds, for a response that does not contain one."""
MAX_LIFETIME = 86_400.0
"""Seconds after which a token is renewed at the latest, whatever lifetime the gateway says."""

MAX_TOKEN = 16_384
"""Bytes of a token. Most servers refuse a longer header."""
RENEW_AFTER = (0.75, 0.9)
"""A token is renewed at a random point within this part of its lifetime, so that workers do not all do it at once."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of a service client or of a user."""

    name: str
    secret: str
    is_client: bool

    def __repr__(self) -> str:
        return f"Credentials(name={self.name!r}, is_client={self.is_client})"


class Token(msgspec.Struct, frozen=True):
    """An access token and its lifetime. Times are in seconds since 1970."""

    access: str
    expires_at: float
    renew_at: float
    refresh: str | None = None
    issued_at: float = 0.0

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at}, renew_at={self.renew_at})"


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """An operation of the user service, with its body and query parameters."""

    operation: str
    body: dict[str, str] = field(repr=False)
    query: dict[str, str] = field(default_factory=dict)


_decode = msgspec.json.Decoder(dict[str, Any]).decode


def credentials_of(api: ApiSettings) -> Credentials:
    """Return the credentials in the settings; those of a service client take precedence over those of a user."""
    if api.client_id and api.client_secret:
        return Credentials(api.client_id, api.client_secret.get_secret_value(), is_client=True)
    if api.username and api.password:
        return Credentials(api.username, api.password.get_secret_value(), is_client=False)
    raise SettingsError(
        "No login for OrderMesh. Set ORDERSYNC_API__CLIENT_ID and ORDERSYNC_API__CLIENT_SECRET."
    )


def login_request(credentials: Credentials) -> LoginRequest:
    """Return the request of a login with id and secret, or with user name and password."""
    if credentials.is_client:
        return LoginRequest(
            "clients.token", {"clientId": credentials.name, "clientSecret": credentials.secret}
        )
    return LoginRequest("users.login", {"username": credentials.name, "password": credentials.secret})


def renewal_request(credentials: Credentials, token: Token | None) -> LoginRequest:
    """Return the request for the next token: a refresh if there is a refresh token, otherwise a login."""
    if token is not None and token.refresh and not credentials.is_client:
        return LoginRequest("users.refresh", {"refreshToken": token.refresh})
    return login_request(credentials)


def parse_token(
    request: LoginRequest, body: bytes, *, now: float, share: float, previous: Token | None
) -> Token:
    """Return the token in the response to a login.

    Args:
        request: The request.
        body: The body of the response.
        now: When the response arrived, in seconds since 1970.
        share: The part of its lifetime after which the token is to be renewed.
        previous: The last token; its refresh token stays valid if the response contains no new one.

    Raises:
        UnreadableAnswer: The response has no access token, or one that a header cannot contain.

    """
    fields = _session_fields(request, body)
    access = _text(fields, "accessToken", "access_token")
    if not access:
        raise UnreadableAnswer(request.operation, "the response to the login has no accessToken")
    if not access.isascii() or not access.isprintable() or " " in access:
        raise UnreadableAnswer(
            request.operation, "the accessToken contains characters that are not allowed in a header"
        )
    if len(access) > MAX_TOKEN:
        raise UnreadableAnswer(
            request.operation, f"the accessToken has {len(access)} bytes; {MAX_TOKEN} are possible"
        )
    is_client = request.operation == "clients.token"
    said = _seconds(fields, "expiresIn", "expires_in")
    lifetime = min(said or (CLIENT_LIFETIME if is_client else USER_LIFETIME), MAX_LIFETIME)
    # A refresh without a new refresh token leaves the old one valid. The one of a client token is never used: the
    # vendor says that client tokens have no refresh flow.
    refresh = _text(fields, "refreshToken", "refresh_token")
    if refresh and len(refresh) > MAX_TOKEN:
        refresh = None
    if not refresh and previous and request.operation == "users.refresh":
        refresh = previous.refresh
    return Token(
        access=access,
        expires_at=now + lifetime,
        renew_at=now + lifetime * share,
        refresh=None if is_client else refresh,
        issued_at=now,
    )


def _session_fields(request: LoginRequest, body: bytes) -> dict[str, Any]:
    """Return the fields of the session in the response to a login, which may stand in one object inside."""
    try:
        fields = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableAnswer(
            request.operation, f"the response to the login cannot be read: {words_of(error)}"
        ) from None
    inner = [value for value in fields.values() if isinstance(value, dict)]
    return inner[0] if len(inner) == 1 and not _text(fields, "accessToken", "access_token") else fields


def _text(fields: dict[str, Any], *names: str) -> str | None:
    """Return the first of these fields that is a text, and not empty."""
    return next((value for name in names if isinstance(value := fields.get(name), str) and value), None)


def _seconds(fields: dict[str, Any], *names: str) -> float | None:
    """Return the first of these fields that is a number of seconds, possibly as text; None if there is none.

    Whatever else a gateway says of the lifetime does not prevent the login: the token is renewed after a 401.
    """
    for name in names:
        value = fields.get(name)
        try:
            seconds = float(value) if isinstance(value, int | float | str) and value is not True else 0.0
        except (ValueError, OverflowError):
            continue
        if seconds > 0 and math.isfinite(seconds):
            return seconds
    return None
