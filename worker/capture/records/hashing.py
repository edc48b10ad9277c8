"""The hashes of the privacy rule `hash`. No I/O.

A hash is an HMAC-SHA256 of a value under a key of its own for each account and field, which is derived from the
configured key by HMAC-SHA256 (the expand step of HKDF). So equal values of one field have equal hashes, and equal
values of two fields, or of two accounts, have not. Fields of an account that name the same group are hashed as one
field.
"""

from __future__ import annotations

import hmac
import json

from worker.capture.records.rules import folded_path

HASH_DIGITS = 32
_MAX_KEYS = 1024


class FieldHashes:
    """The hashes of the values of one resource of an account, under the configured `key`."""

    __slots__ = ("_account", "_key", "_keys", "_resource")

    def __init__(self, key: bytes, account: str, resource: str) -> None:
        self._key, self._account, self._resource = key, account, resource
        self._keys: dict[tuple[str, str], bytes] = {}

    def of(self, value: bytes, path: str, group: str = "") -> str:
        """Return 32 hex digits for the value of the field at a path, or of a `group` of fields, if given."""
        place = ("", group) if group else (self._resource, path)
        key = self._keys.get(place)
        if key is None:
            if len(self._keys) >= _MAX_KEYS:  # generated field names must not fill the memory
                self._keys.clear()
            key = self._keys[place] = self._derived("field", place[0], folded_path(place[1]))
        return hmac.digest(key, value, "sha256").hex()[:HASH_DIGITS]

    def tag(self, text: str) -> bytes:
        """Return 4 bytes that identify a text and the key."""
        return self._derived("policy", text)[:4]

    def _derived(self, *purpose: str) -> bytes:
        # As JSON, so that no two purposes are written alike.
        return hmac.digest(self._key, json.dumps(["ordersync", self._account, *purpose]).encode(), "sha256")
