"""Logins of the sandbox: the three operations of the user service, and the check of every other request.

It supports client credentials, which production integrations use, and user logins with a rotating refresh token, as in
the vendor's sample. Access tokens look like JWTs but are valid only in this process.
"""

from __future__ import annotations

import base64
import math
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from worker.sandbox.answers import Answer, error_answer, json_answer
from worker.sandbox.permissions import Permissions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CLIENT_ID = "sandbox-client"
"""Default client id."""
CLIENT_SECRET = "sandbox-secret"  # noqa: S105 - opens nothing but the sandbox on this machine
"""Default client secret."""
USERNAME = "sandbox@example.com"
"""Default user name."""
PASSWORD = "sandbox-password"  # noqa: S105 - opens nothing but the sandbox on this machine
"""Default password."""


_SPELLINGS = {
    "camel": (("clientId",), ("clientSecret",)),
    "snake": (("client_id",), ("client_secret",)),
    "either": (("clientId", "client_id"), ("clientSecret", "client_secret")),
}


@dataclass(frozen=True, slots=True)
class IssuedCredentials:
    """The credentials of the only client and the only user."""

    client_id: str = CLIENT_ID
    client_secret: str = CLIENT_SECRET
    username: str = USERNAME
    password: str = PASSWORD


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Lifetimes of tokens in seconds. `expiresIn` in responses is the same number, rounded up."""

    client: float = 86_400
    user: float = 900
    refresh: float = 1_800

    @classmethod
    def of_access(cls, seconds: float | None) -> Lifetimes:
        """Return lifetimes with this one for the access tokens of clients and users; None for the defaults."""
        return cls() if seconds is None else cls(client=seconds, user=seconds)


class Auth:
    """Issues and checks tokens; every method may be called from any thread.

    Args:
        credentials: The credentials that may log in.
        lifetimes: The lifetimes of tokens.
        permissions: The permissions of tokens; all by default.
        clock: Monotonic clock, in seconds.

    Attributes:
        permissions: The current permissions of tokens.
    """

    def __init__(
        self,
        credentials: IssuedCredentials | None = None,
        lifetimes: Lifetimes | None = None,
        *,
        permissions: Permissions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.credentials = credentials or IssuedCredentials()
        self.lifetimes = lifetimes or Lifetimes()
        self.permissions = permissions or Permissions()
        self._clock = clock
        self._lock = threading.Lock()
        self._access: dict[bytes, tuple[float, str]] = {}
        self._refresh: dict[str, float] = {}
        self._issued = 0

    @property
    def issued(self) -> int:
        """Number of access tokens issued since the start."""
        return self._issued

    def client_token(self, body: bytes, spelling: str = "either") -> Answer:
        """Generate Service Client Access Token.

        The lifetime of 24 hours and the absence of a refresh token are documented. The names of the fields in the
        response are those of the login sample.

        Args:
            body: The body as sent.
            spelling: Spelling of the fields: `camel`; `snake`, as in the vendor's older guide; or `either`. A field
                with another spelling counts as missing.
        """
        values = _fields(body, *_SPELLINGS[spelling])
        if isinstance(values, Answer):
            return values
        if not _same(values, (self.credentials.client_id, self.credentials.client_secret)):
            return error_answer(401, "The client id or the client secret is wrong.")
        return json_answer(self._token(self.lifetimes.client, self.credentials.client_id))

    def login(self, body: bytes) -> Answer:
        """Login User by Username and Password: the complete response of the vendor's sample."""
        values = _fields(body, ("username",), ("password",))
        if isinstance(values, Answer):
            return values
        if not _same(values, (self.credentials.username, self.credentials.password)):
            return error_answer(401, "The user name or the password is wrong.")
        return json_answer(self._session())

    def refresh(self, body: bytes) -> Answer:
        """Login User with Refresh Token: a new session; the refresh token cannot be used again."""
        values = _fields(body, ("refreshToken",))
        if isinstance(values, Answer):
            return values
        with self._lock:
            expires = self._refresh.pop(values[0], None)
        if expires is None or expires <= self._clock():
            return error_answer(401, "The refresh token is unknown, used or expired.")
        return json_answer(self._session())

    def accepts(self, authorization: bytes | None) -> bool:
        """True if the value of an `Authorization` header contains a valid token."""
        return self.holder(authorization) is not None

    def holder(self, authorization: bytes | None) -> str | None:
        """Return the client id or user name of the token in an `Authorization` header; None if it is not valid."""
        if authorization is None:
            return None
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or token not in self._access:
            return None
        expires, holder = self._access[token]
        return holder if expires > self._clock() else None

    def permit(self, permissions: Permissions | Mapping[str, Iterable[str]]) -> None:
        """Restrict all tokens, also those already issued, to these permissions.

        Args:
            permissions: Verbs by resource, `{"order": {"get"}}`; `Permissions()` allows everything again.

        Raises:
            PermissionsError: A resource or verb does not exist.
        """
        if not isinstance(permissions, Permissions):
            permissions = Permissions.only(permissions)
        self.permissions = permissions

    def expire_tokens(self) -> None:
        """Expire every access token now; refresh tokens stay valid."""
        with self._lock:
            self._access.clear()

    def revoke(self) -> None:
        """Revoke all access and refresh tokens, as a logout or a changed password does."""
        with self._lock:
            self._access.clear()
            self._refresh.clear()

    def _token(self, seconds: float, holder: str) -> dict[str, Any]:
        token = _jwt("RS256", seconds)
        with self._lock:
            self._access[token.encode()] = (self._clock() + seconds, holder)
            self._issued += 1
        return {"accessToken": token, "tokenType": "Bearer", "expiresIn": math.ceil(seconds)}

    def _session(self) -> dict[str, Any]:
        access = self._token(self.lifetimes.user, self.credentials.username)
        refresh_token = _jwt("HS256", self.lifetimes.refresh)
        with self._lock:
            self._refresh[refresh_token] = self._clock() + self.lifetimes.refresh
        return {
            "accessToken": access["accessToken"],
            "scope": "email profile",
            "tokenType": "Bearer",
            "refreshToken": refresh_token,
            "expiresIn": access["expiresIn"],
            "identityToken": None,
            "id": "c8f51b34-3c03-417c-b3ff-1e49a159e851",
            "shortId": "U02270001",
            "username": "",
            "email": self.credentials.username,
            "firstName": "Joe",
            "lastName": "Bloggs",
            "status": "enabled",
            "dateCreated": "2026-04-30T18:13:57.0698643Z",
            "attributes": {"merchantIds": ["merchant-1", "merchant-2"], "vendorIds": [], "facilityIds": []},
            "roles": [
                {
                    "id": "03d5cd96-6d1e-46de-94c3-ceeb57feeadb",
                    "name": "merchant",
                    "usersCount": None,
                    "permissionSet": self.permissions.sets(),
                }
            ],
        }


def _fields(body: bytes, *names: tuple[str, ...]) -> tuple[str, ...] | Answer:
    """Return string fields of a JSON body, each of which may have several names; a 400 if one is missing."""
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        return error_answer(400, "The body must be a JSON object.")
    values = []
    for aliases in names:
        value = next((document[name] for name in aliases if name in document), None)
        if not isinstance(value, str) or not value:
            return error_answer(400, f"'{aliases[0]}' must not be empty.", aliases[0])
        values.append(value)
    return tuple(values)


def _same(values: tuple[str, ...], expected: tuple[str, ...]) -> bool:
    return secrets.compare_digest("\n".join(values).encode(), "\n".join(expected).encode())


def _jwt(algorithm: str, seconds: float) -> str:
    now = int(time.time())
    parts = (
        msgspec.json.encode({"alg": algorithm, "typ": "JWT"}),
        msgspec.json.encode({"iat": now, "exp": now + math.ceil(seconds), "jti": secrets.token_hex(16)}),
        secrets.token_bytes(256 if algorithm == "RS256" else 32),
    )
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
