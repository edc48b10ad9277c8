"""The user service: logins. They are sent without a token, and their responses never appear in a log.

The client logs in on its own (`tokens.py`). These methods are for examining a login, not for using it.
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
        """Return a token for a service client. It lives about 24 hours and cannot be refreshed. Path documented.

        Raises:
            LoginRejected: The server refuses these credentials.

        """
        return await _log_in(
            self._client, "clients.token", {"clientId": client_id, "clientSecret": client_secret}
        )


class Users(ServiceGroup):
    """Users. Their sessions are short and meant for development."""

    async def login(self, username: str, password: str, *, source: str | None = None) -> Reply:
        """Create a session of a user. Path documented; the meaning of `source` is not.

        Raises:
            LoginRejected: The server refuses these credentials.

        """
        return await _log_in(
            self._client, "users.login", {"username": username, "password": password}, source=source
        )

    async def refresh(self, refresh_token: str) -> Reply:
        """Create a session from a refresh token, which may be used up by that. Path and body inferred.

        Raises:
            LoginRejected: The server refuses the token.

        """
        return await _log_in(self._client, "users.refresh", {"refreshToken": refresh_token})


async def _log_in(client: Caller, key: str, body: dict[str, str], source: str | None = None) -> Reply:
    """Log in. The secrets in the request and in the response are redacted in the logs of this process."""
    redaction.add(*(text for name, text in body.items() if name not in {"clientId", "username"}))
    reply = await client.log_in(LoginRequest(key, body, query_of({"source": source})))
    answer = reply.value
    parts = [answer, *answer.values()] if isinstance(answer, dict) else []
    for session in parts:
        if isinstance(session, dict):
            redaction.add_passing(*(text for name in _SECRETS if isinstance(text := session.get(name), str)))
    return reply
