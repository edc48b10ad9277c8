"""The permissions that an answer to a login, or its token, tells."""

from __future__ import annotations

import base64
import json

import pytest

from worker.admin.permissions import claims, permissions


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"roles": 1}', b'{"roles": [{"permissionSet": [3]}]}'])
def test_a_login_without_permissions(raw: bytes) -> None:
    """An answer that does not tell them is no error."""
    assert permissions(raw) == {}


def jwt(payload: object) -> str:
    parts = (b'{"alg": "RS256"}', json.dumps(payload).encode(), b"signature")
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"scope": "orders:read notes:read"}, {"scope": ["orders:read", "notes:read"]}),
        ({"accessToken": jwt({"scope": "email", "exp": 1})}, {"scope": ["email"]}),
        ({"scope": "email", "accessToken": jwt({"scope": "email profile"})}, {"scope": ["email", "profile"]}),
        (
            {"accessToken": jwt({"roles": ["merchant"], "realm_access": {"roles": ["merchant", "api"]}})},
            {"roles": ["merchant", "api"]},
        ),
        ({"accessToken": jwt([1])}, {}),
        ({"accessToken": jwt({"scope": 7, "roles": [None], "realm_access": "x"})}, {}),
        ({"accessToken": "no.token.at all"}, {}),
        ({"accessToken": "opaque"}, {}),
        ({"accessToken": None}, {}),
        ([], {}),
    ],
)
def test_what_a_token_says(answer: object, said: dict[str, list[str]]) -> None:
    """Scopes and roles in the answer or in the token, each once; what cannot be read says nothing."""
    assert claims(json.dumps(answer).encode()) == said
