"""The seal of an account in Redis: its secrets, encrypted with `ORDERSYNC_SECRET_KEY`.

The seal (AES-256-GCM) also covers the settings, the name and the key in Redis: whoever can write to Redis, but does not
know the secret key, cannot let a worker send a login to another address. Disabling needs no key, as a pause does not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from worker.accounts.rows import Row, RowError, Values
from worker.config.settings import account_of
from worker.config.values import keys_of
from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.config.sections import Account
    from worker.config.settings import Settings

SECRETS = ("client_secret", "password", "headers", "proxy")
"""The settings of `api` that are sealed."""
NOT_IN_REDIS = ("ca_file", "client_cert_file", "client_key_file")
"""The settings of `api` that name files of a host."""
NO_KEY = (
    "ORDERSYNC_SECRET_KEY is not set. Secrets are never stored in plain words: set it, for the workers and for this "
    "command, to what `openssl rand -hex 32` prints."
)
_SALT_BYTES = 16
_NONCE_BYTES = 12


_encode = msgspec.json.Encoder(order="sorted").encode
_decode_secrets = msgspec.json.Decoder(Values).decode


def seal(name: str, api: Mapping[str, Any], poll: Mapping[str, Any], settings: Settings, *, at: float) -> Row:
    """Return the row of an account.

    Args:
        name: The name of the account.
        api: Its settings of `api`, with the secrets.
        poll: Its settings of `poll`.
        settings: The settings of the environment.
        at: The current time, in seconds since 1970.

    Raises:
        SettingsError: A setting is invalid, names a file, or there is no secret key.

    """
    keys = keys_of(settings.secret_key)
    if not keys:
        raise SettingsError(NO_KEY)
    if files := [one for one in NOT_IN_REDIS if one in api]:
        raise SettingsError(
            f"{files[0]} names a file of this host. Set it for all workers with ORDERSYNC_API__{files[0].upper()}, or "
            "list this account in ORDERSYNC_ACCOUNTS_FILE."
        )
    account_of(name, settings, api=api, poll=poll, contract_file=settings.contract_file)
    shown = {key: value for key, value in api.items() if key not in SECRETS}
    secret = {key: value for key, value in api.items() if key in SECRETS}
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    bound = _bound_to(name, shown, poll, settings)
    sealed = AESGCM(_derive(keys[0].get_secret_value(), salt)).encrypt(nonce, _encode(secret), bound)
    return Row(1, shown, dict(poll), at, salt, nonce, sealed)


def opened(name: str, row: Row, settings: Settings) -> Account:
    """Return the account of a row.

    Raises:
        RowError: The secret key is missing or another one, the row was changed by another program, or a setting is
            invalid.

    """
    keys = keys_of(settings.secret_key)
    if not keys:
        raise RowError("ORDERSYNC_SECRET_KEY is not set, so its secrets cannot be read")
    try:
        return account_of(
            name,
            settings,
            api={**row.api, **_unsealed(name, row, [key.get_secret_value() for key in keys], settings)},
            poll=row.poll,
            contract_file=settings.contract_file,
        )
    except SettingsError as error:
        raise RowError(str(error)) from None


def _unsealed(name: str, row: Row, keys: Sequence[str], settings: Settings) -> Values:
    if len(row.salt) == _SALT_BYTES and len(row.nonce) == _NONCE_BYTES:
        for key in keys:
            try:
                bound = _bound_to(name, row.api, row.poll, settings)
                return _decode_secrets(AESGCM(_derive(key, row.salt)).decrypt(row.nonce, row.sealed, bound))
            except (InvalidTag, msgspec.DecodeError):
                continue
    raise RowError(
        "its secrets were sealed with another ORDERSYNC_SECRET_KEY, or the row was changed by another program; set the "
        "key with which it was added, or add it again with --replace"
    )


def _bound_to(name: str, api: Values, poll: Mapping[str, Any], settings: Settings) -> bytes:
    return _encode([settings.redis.keys.account_rows, name, api, dict(poll)])


def _derive(secret_key: str, salt: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=salt, info=b"ordersync account").derive(secret_key.encode())
