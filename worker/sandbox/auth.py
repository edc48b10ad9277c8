"""Logins of the sandbox: the three operations of the user service, and the check of every other request.

Client credentials, as production integrations use them, and user login with a rotating refresh token, as in
the vendor's login sample. Access tokens look like JWTs but mean nothing outside this process.
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

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT_ID = "sandbox-client"
"""Default client id."""
CLIENT_SECRET = "sandbox-secret"  # noqa: S105 - opens nothing but the sandbox on this machine
"""Default client secret."""
USERNAME = "sandbox@example.com"
"""Default user name."""
PASSWORD = "sandbox-password"  # noqa: S105 - opens nothing but the sandbox on this machine
"""Default password."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The one client and the one user that may log in."""

    client_id: str = CLIENT_ID
    client_secret: str = CLIENT_SECRET
    username: str = USERNAME
    password: str = PASSWORD


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds that tokens are accepted. `expiresIn` in answers is the same number, rounded up."""

    client: float = 86_400
    user: float = 900
    refresh: float = 1_800


class Auth:
    """Issues and checks tokens; every method may be called from any thread.

    Args:
        credentials: Who may log in.
        lifetimes: How long tokens are accepted.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        lifetimes: Lifetimes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.credentials = credentials or Credentials()
        self.lifetimes = lifetimes or Lifetimes()
        self._clock = clock
        self._lock = threading.Lock()
        self._access: dict[bytes, float] = {}
        self._refresh: dict[str, float] = {}
        self._issued = 0

    @property
    def issued(self) -> int:
        """Access tokens handed out since the start."""
        return self._issued

    def client_token(self, body: bytes) -> Answer:
        """Generate Service Client Access Token: `clientId` and `clientSecret`, in camelCase or snake_case.

        Lifetime and the absence of a refresh token are documented (24 h, log in again); the names of the
        answer's fields are those of the login sample.
        """
        given = _fields(body, ("clientId", "client_id"), ("clientSecret", "client_secret"))
        if isinstance(given, Answer):
            return given
        if not _same(given, (self.credentials.client_id, self.credentials.client_secret)):
            return error_answer(401, "The client id or the client secret is wrong.")
        return json_answer(self._token(self.lifetimes.client))

    def login(self, body: bytes) -> Answer:
        """Login User by Username and Password: the full answer of the vendor's sample."""
        given = _fields(body, ("username",), ("password",))
        if isinstance(given, Answer):
            return given
        if not _same(given, (self.credentials.username, self.credentials.password)):
            return error_answer(401, "The user name or the password is wrong.")
        return json_answer(self._session())

    def refresh(self, body: bytes) -> Answer:
        """Login User with Refresh Token: a new session; the refresh token that was used is spent."""
        given = _fields(body, ("refreshToken",))
        if isinstance(given, Answer):
            return given
        with self._lock:
            ends = self._refresh.pop(given[0], None)
        if ends is None or ends <= self._clock():
            return error_answer(401, "The refresh token is unknown, spent or expired.")
        return json_answer(self._session())

    def accepts(self, authorization: bytes | None) -> bool:
        """Whether the value of an `Authorization` header carries a token that is good now."""
        if authorization is None:
            return False
        scheme, _, token = authorization.partition(b" ")
        ends = self._access.get(token)
        return scheme.lower() == b"bearer" and ends is not None and ends > self._clock()

    def expire_tokens(self) -> None:
        """Ends every access token now; refresh tokens stay good."""
        with self._lock:
            self._access.clear()

    def revoke(self) -> None:
        """Ends every session, as a logout or a changed password does: access and refresh tokens."""
        with self._lock:
            self._access.clear()
            self._refresh.clear()

    def _token(self, seconds: float) -> dict[str, Any]:
        token = _jwt("RS256", seconds)
        with self._lock:
            self._access[token.encode()] = self._clock() + seconds
            self._issued += 1
        return {"accessToken": token, "tokenType": "Bearer", "expiresIn": math.ceil(seconds)}

    def _session(self) -> dict[str, Any]:
        access = self._token(self.lifetimes.user)
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
                    "permissionSet": [
                        {
                            "resourceId": "33c7a0f0-0036-4461-b677-97520b874824",
                            "resourceName": "order",
                            "resourceDisplayName": "Order",
                            "availablePermissions": [
                                {"name": "get", "description": ""},
                                {"name": "create", "description": ""},
                            ],
                            "associatedPermissions": [{"name": "get", "description": ""}],
                        }
                    ],
                }
            ],
        }


def _fields(body: bytes, *names: tuple[str, ...]) -> tuple[str, ...] | Answer:
    """The named string fields of a JSON body; each may go by several names. A 400 names what is missing."""
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


def _same(given: tuple[str, ...], expected: tuple[str, ...]) -> bool:
    return secrets.compare_digest("\n".join(given).encode(), "\n".join(expected).encode())


def _jwt(algorithm: str, seconds: float) -> str:
    now = int(time.time())
    parts = (
        msgspec.json.encode({"alg": algorithm, "typ": "JWT"}),
        msgspec.json.encode({"iat": now, "exp": now + math.ceil(seconds), "jti": secrets.token_hex(16)}),
        secrets.token_bytes(256 if algorithm == "RS256" else 32),
    )
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
