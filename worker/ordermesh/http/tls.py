"""The TLS configuration of the connections to a gateway: whose certificates are accepted, and which one is shown."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx

from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from worker.config.sections import ApiSettings


def tls_context(api: ApiSettings) -> ssl.SSLContext:
    """Return the configuration. Accepted are authorities that Python's `certifi`, the system or `ca_file` has.

    Raises:
        SettingsError: A file is missing or invalid, or the key is encrypted.

    """
    context = httpx.create_ssl_context()
    context.load_default_certs()
    if api.ca_file is not None:
        try:
            context.load_verify_locations(api.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise _unusable("CA_FILE", api.ca_file, error) from None
    if api.client_cert_file is not None:
        try:
            # Without a password OpenSSL would ask for one at the terminal, and wait.
            context.load_cert_chain(api.client_cert_file, api.client_key_file, password="")
        except (OSError, ssl.SSLError) as error:
            raise _unusable("CLIENT_CERT_FILE", api.client_cert_file, error) from None
    return context


def check_files(apis: Iterable[ApiSettings]) -> None:
    """Check the files that settings name, each once.

    Raises:
        SettingsError: A file is missing or invalid, or the key is encrypted.

    """
    named = {(api.ca_file, api.client_cert_file, api.client_key_file): api for api in apis}
    for files, api in named.items():
        if any(files):
            tls_context(api)


def _unusable(setting: str, file: Path, error: Exception) -> SettingsError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return SettingsError(f"ORDERSYNC_API__{setting}: {file} cannot be used: {reason}")
