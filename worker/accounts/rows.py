"""One account in Redis: its settings in clear, and its secrets, which `sealing.py` encrypts."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ordersync_consumer.redaction import words_of
from worker.errors import SettingsError

Values = dict[str, Any]


class Disabled(msgspec.Struct, frozen=True):
    """Who has disabled an account, when (seconds since 1970), and why."""

    by: str
    reason: str
    at: float


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account as Redis has it."""

    version: Literal[1]
    api: Values
    """Settings of `api` that are not secret."""
    poll: Values
    added_at: float
    """Seconds since 1970."""
    salt: bytes
    nonce: bytes
    sealed: bytes
    disabled: Disabled | None = None


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Row).decode


class RowError(SettingsError):
    """A row cannot be used; the other accounts are not concerned."""


def write(row: Row) -> bytes:
    """Return a row as it is stored."""
    return _encode(row)


def read(raw: bytes) -> Row:
    """Return a stored row.

    Raises:
        RowError: It was not written by this program.

    """
    try:
        return _decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RowError(f"the row cannot be read ({words_of(error)}); add the account again") from None
