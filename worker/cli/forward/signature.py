"""Signatures of requests after Standard Webhooks (https://www.standardwebhooks.com). Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PREFIX = "whsec_"


def key_of(secret: str) -> bytes:
    """Return the key in a secret, whose form the settings have checked."""
    return base64.b64decode(secret.removeprefix(_PREFIX))


def message_id(ids: Sequence[str]) -> str:
    """Return the `webhook-id` of events: the `id` of one event; of several, a name that stays the same for the same."""
    if len(ids) > 1:
        return "batch:" + hashlib.sha256("\n".join(ids).encode()).hexdigest()[:32]
    # A header has no other characters, and a full stop separates the parts that are signed.
    return quote(ids[0], safe=":").replace(".", "%2E")


def signed_headers(keys: Iterable[bytes], identifier: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a request.

    Args:
        keys: The keys, newest first; a receiver accepts the request if it knows one of them. Without any, the request
            has no signature.
        identifier: The `webhook-id`.
        timestamp: Seconds since 1970.
        body: The body.

    """
    signed = f"{identifier}.{timestamp}.".encode() + body
    signatures = ["v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    headers = {"webhook-id": identifier, "webhook-timestamp": str(timestamp)}
    return headers | ({"webhook-signature": " ".join(signatures)} if signatures else {})
