"""The login of an account, read anew from its sources after a refusal: a secret may have been rotated on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import SettingsError
from worker.ordermesh.http.auth import credentials_of
from worker.telemetry.log import get_logger, redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import SecretStr

    from worker.config.sections import ApiSettings
    from worker.ordermesh.http.auth import Credentials

LOGIN = ("client_id", "client_secret", "username", "password", "headers")
"""The settings that a gateway may refuse. The other settings of the API are read at the start and by SIGHUP only."""


class Rotation:
    """Reads the settings of an account again; called after a refusal.

    Args:
        account: Name of the account, for the log.
        api: The settings that were refused.
        read: Returns the current settings of the account, None if they are not read again; raises `SettingsError` if
            they cannot be read.
        use_headers: Takes the headers of the current settings.
    """

    def __init__(
        self,
        account: str,
        api: ApiSettings,
        read: Callable[[], ApiSettings | None],
        use_headers: Callable[[Mapping[str, SecretStr]], None],
    ) -> None:
        self._api, self._read, self._use_headers = api, read, use_headers
        self._log = get_logger(account=account)

    def __call__(self) -> Credentials | None:
        """Return the current credentials; None if nothing of the login has changed, or it cannot be read."""
        try:
            api = self._read()
            if api is None:
                return None
            credentials = credentials_of(api)
        except SettingsError as error:
            self._log.warning("secrets_not_read", error=str(error))
            return None
        changed = [name for name in LOGIN if getattr(api, name) != getattr(self._api, name)]
        if not changed:
            return None
        self._api = api
        redaction.add(credentials.secret)
        self._use_headers(api.headers)
        self._log.info("secrets_read_anew", changed=changed)
        return credentials
