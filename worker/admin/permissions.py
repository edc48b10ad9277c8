"""What a login may do, by its response or by its token."""

from __future__ import annotations

import base64
from typing import Any

import msgspec


def permissions(raw: bytes) -> dict[str, list[str]]:
    """Return the verbs by resource that the roles in the response of a login grant."""
    result: dict[str, list[str]] = {}
    for role in _dicts(_decoded(raw), "roles"):
        for part in _dicts(role, "permissionSet"):
            verbs = [str(verb.get("name")) for verb in _dicts(part, "associatedPermissions")]
            known = result.setdefault(str(part.get("resourceName")), [])
            known += [verb for verb in verbs if verb not in known]
    return result


def claims(raw: bytes) -> dict[str, list[str]]:
    """Return the scopes, roles and permissions in the response of a login, or in its token if the token is a JWT.

    The permissions of a client are not documented, so the usual names are tried. The signature is not verified: the
    result is only displayed.
    """
    answer = _decoded(raw)
    token = answer.get("accessToken") if isinstance(answer, dict) else None
    parts = token.split(".") if isinstance(token, str) else []
    inside = _decoded(_unpadded(parts[1])) if len(parts) == 3 else None
    result: dict[str, list[str]] = {}
    for source in (answer, inside):
        for name in ("scope", "scp", "roles", "permissions"):
            _note_words(result, name, source.get(name) if isinstance(source, dict) else None)
        realm = source.get("realm_access") if isinstance(source, dict) else None
        _note_words(result, "roles", realm.get("roles") if isinstance(realm, dict) else None)
    return result


def _note_words(result: dict[str, list[str]], name: str, value: Any) -> None:
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    known = result.get(name, [])
    if new := [word for word in words if isinstance(word, str) and word and word not in known]:
        result[name] = known + new


def _unpadded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return b""


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _dicts(value: Any, name: str) -> list[dict[str, Any]]:
    inner = value.get(name) if isinstance(value, dict) else None
    return [item for item in inner if isinstance(item, dict)] if isinstance(inner, list) else []
