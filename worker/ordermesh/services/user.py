"""The user service: logins. They go unsigned, and what they answer never gets into a log.

The client logs in by itself (`tokens.py`); these are for looking at a login, not for using it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.ordermesh.http.auth import LoginRequest
from worker.ordermesh.services.group import Caller, ServiceGroup, query_of
from worker.telemetry.log import redaction

if TYPE_CHECKING:
    from worker.ordermesh.http.reply import Reply

_SECRETS = ("accessToken", "access_token", "refreshToken", "refresh_token", "identityToken")


class Clients(ServiceGroup):
    """Service clients, as production integrations use them."""

    async def token(self, client_id: str, client_secret: str) -> Reply:
        """A token for a service client, good for about 24 hours, without a refresh. Path documented.

        Raises:
            LoginRejected: The server refuses these credentials.

        """
        return await _log_in(
            self._client, "clients.token", {"clientId": client_id, "clientSecret": client_secret}
        )


class Users(ServiceGroup):
    """Users, whose sessions are short and meant for trying things out."""

    async def login(self, username: str, password: str, *, source: str | None = None) -> Reply:
        """A session of a user. Path documented; what `source` means is not.

        Raises:
            LoginRejected: The server refuses these credentials.

        """
        return await _log_in(
            self._client, "users.login", {"username": username, "password": password}, source=source
        )

    async def refresh(self, refresh_token: str) -> Reply:
        """A new session for a refresh token, which may be spent by it. Path and body inferred.

        Raises:
            LoginRejected: The server refuses the token.

        """
        return await _log_in(self._client, "users.refresh", {"refreshToken": refresh_token})


async def _log_in(client: Caller, key: str, body: dict[str, str], source: str | None = None) -> Reply:
    """Log in; the secrets that go there and come back are hidden from the logs of this process."""
    redaction.add(*(text for name, text in body.items() if name not in {"clientId", "username"}))
    reply = await client.log_in(LoginRequest(key, body, query_of({"source": source})))
    session = reply.value
    if isinstance(session, dict):
        redaction.add_passing(*(text for name in _SECRETS if isinstance(text := session.get(name), str)))
    return reply
