"""The encryption of a token in Redis: AES-256-GCM, under a key that only workers with the same login can derive.

The key comes from the login, a random salt, and the secret key of the settings. With a secret key, Redis holds nothing
that a password could be tried against. Without one the secret of the login takes its place, and scrypt makes each
attempt at it slow. A token that does not open belongs to another login or another secret key: there is no other mark.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from worker.ordermesh.http.auth import Credentials, Token

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRYPT_COST = 1 << 14
"""The cost N of scrypt, with r = 8: 16 MB, and some 50 ms in a thread, once for each login and salt."""
_DERIVING = ThreadPoolExecutor(1, "derive-keys")
"""One thread: the memory of scrypt would be taken, and kept, once for each."""
_KEYS_KEPT = 20_000
"""Derived keys of this many logins are kept, so that an account whose services are built again costs nothing."""
_SALT_BYTES = 16
_NONCE_BYTES = 12
_MAX_STORED = 131_072
"""Bytes of a stored token. What is longer was not written by a worker."""


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An encrypted token as Redis has it."""

    version: Literal[1]
    salt: bytes
    nonce: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class _Login:
    credentials: Credentials
    salt: bytes


_kept = OrderedDict[bytes, tuple[bytes, ...]]()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Stored).decode
_decode_token = msgspec.json.Decoder(Token).decode


class TokenCipher:
    """Encrypts and decrypts the token of one account.

    Args:
        base_url: The gateway. A token never opens for another one.
        key_name: The key in Redis that has the token. A stored token cannot be moved to another key.
        secret_keys: The secret keys, newest first. The first one encrypts; each decrypts. Without any, the secret of
            the login takes their place.

    """

    def __init__(self, base_url: str, key_name: str, secret_keys: Sequence[str] = ()) -> None:
        self._base_url, self._bound_to = base_url, key_name.encode()
        self._secret_keys = tuple(secret_keys)
        self._derived: tuple[_Login, tuple[bytes, ...]] | None = None

    async def encrypt(self, token: Token, credentials: Credentials) -> bytes:
        """Return a token as it is stored."""
        known = self._derived
        same = known is not None and known[0].credentials == credentials
        salt = known[0].salt if known is not None and same else os.urandom(_SALT_BYTES)
        key = (await self._keys(_Login(credentials, salt)))[0]
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, _encode(token), self._bound_to)
        return _encode(_Stored(1, salt, nonce, sealed))

    async def decrypt(self, raw: bytes, credentials: Credentials) -> Token | None:
        """Return the token that is stored as `raw`; None if it is not readable with this login and these keys."""
        try:
            stored = _decode(raw) if len(raw) <= _MAX_STORED else None
        except (msgspec.DecodeError, RecursionError):
            return None
        if stored is None or len(stored.salt) != _SALT_BYTES or len(stored.nonce) != _NONCE_BYTES:
            return None
        for key in await self._keys(_Login(credentials, stored.salt)):
            try:
                return _decode_token(AESGCM(key).decrypt(stored.nonce, stored.sealed, self._bound_to))
            except (InvalidTag, msgspec.DecodeError):
                continue
        return None

    async def _keys(self, login: _Login) -> tuple[bytes, ...]:
        """Return the keys for a login, newest first. They are derived once for each login and salt."""
        if self._derived is None or self._derived[0] != login:
            self._derived = (login, await _keys_of(self._base_url, login, self._secret_keys))
        return self._derived[1]


async def _keys_of(base_url: str, login: _Login, secret_keys: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return the keys, newest first, derived in a thread unless they are kept."""
    credentials = login.credentials
    of = _encode(
        (base_url, credentials.name, credentials.is_client, credentials.secret, login.salt, secret_keys)
    )
    name = hashlib.sha256(of).digest()
    if name not in _kept:
        deriving = asyncio.get_running_loop().run_in_executor(
            _DERIVING, _derive, base_url, login, secret_keys
        )
        _kept[name] = await deriving
    _kept.move_to_end(name)
    if len(_kept) > _KEYS_KEPT:
        _kept.popitem(last=False)
    return _kept[name]


def _derive(base_url: str, login: _Login, secret_keys: tuple[str, ...]) -> tuple[bytes, ...]:
    credentials = login.credentials
    identity = _encode((base_url, credentials.name, credentials.is_client))
    secret = credentials.secret.encode()
    if secret_keys:
        sources = [_encode((key, credentials.secret)) for key in secret_keys]
    else:
        sources = [hashlib.scrypt(secret, salt=login.salt, n=SCRYPT_COST, r=8, p=1, dklen=32)]
    return tuple(
        HKDF(SHA256(), 32, salt=login.salt, info=b"ordersync access token " + identity).derive(source)
        for source in sources
    )
