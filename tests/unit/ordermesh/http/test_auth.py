"""What is sent to log in, and what an answer to it means."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from worker.config.sections import ApiSettings
from worker.errors import SettingsError, UnreadableAnswer
from worker.ordermesh.http.auth import (
    CLIENT_LIFETIME,
    MAX_TOKEN,
    USER_LIFETIME,
    Credentials,
    LoginRequest,
    Token,
    credentials_of,
    login_request,
    parse_token,
    renewal_request,
)

CLIENT = Credentials("client-1", "client-secret", is_client=True)
USER = Credentials("joe@example.com", "user-password", is_client=False)
REFRESH = LoginRequest("users.refresh", {"refreshToken": "r0"})
PREVIOUS = Token(access="a0", expires_at=2_000, renew_at=1_900, refresh="r0")


def parse(request: LoginRequest, previous: Token | None = None, share: float = 0.8, **answer: Any) -> Token:
    body = json.dumps(answer).encode()
    return parse_token(request, body, now=1_000.0, share=share, previous=previous)


def test_client_login() -> None:
    """A service client logs in with the names of today's samples, which are camelCase."""
    request = login_request(CLIENT)
    assert request.operation == "clients.token"
    assert request.body == {"clientId": "client-1", "clientSecret": "client-secret"}


def test_user_login() -> None:
    """A user logs in with user name and password."""
    request = login_request(USER)
    assert request.operation == "users.login"
    assert request.body == {"username": "joe@example.com", "password": "user-password"}


def test_user_renews_by_refresh() -> None:
    """A user's next token comes by its refresh token, where there is one."""
    assert renewal_request(USER, PREVIOUS) == LoginRequest("users.refresh", {"refreshToken": "r0"})
    assert renewal_request(USER, None) == login_request(USER)


def test_client_token_is_never_refreshed() -> None:
    """A client token has no refresh flow: neither is a refresh token kept, nor used if one is there."""
    token = parse(login_request(CLIENT), accessToken="a", refreshToken="r", expiresIn=60)
    assert token.refresh is None
    assert renewal_request(CLIENT, PREVIOUS) == login_request(CLIENT)


def test_lifetime_is_that_of_the_answer() -> None:
    """End and renewal are worked out from `expiresIn`, whatever it is."""
    token = parse(login_request(CLIENT), accessToken="a", expiresIn=3_600)
    assert (token.issued_at, token.renew_at, token.expires_at) == (1_000, 1_000 + 2_880, 4_600)


def test_snake_case_answer() -> None:
    """The older guide's snake case is read as well."""
    token = parse(login_request(USER), access_token="a", expires_in=50, refresh_token="r")
    assert (token.access, token.expires_at, token.refresh) == ("a", 1_050, "r")


def test_lifetime_as_text() -> None:
    """A lifetime that is written as text is read."""
    assert parse(login_request(USER), accessToken="a", expiresIn="120").expires_at == 1_120


@pytest.mark.parametrize(
    "lifetime",
    [
        None,
        0,
        -5,
        "Infinity",
        "nan",
        "24h",
        "",
        "2026-11-30T10:00:00Z",
        "1.00:00:00",
        {"days": 1},
        [60],
        True,
    ],
)
def test_default_lifetimes(lifetime: object) -> None:
    """Without a usable lifetime in the answer the documented ones hold: a day, and 900 s."""
    client = parse(login_request(CLIENT), accessToken="a", expiresIn=lifetime)
    user = parse(login_request(USER), accessToken="a", expiresIn=lifetime)
    assert (client.expires_at, user.expires_at) == (1_000 + CLIENT_LIFETIME, 1_000 + USER_LIFETIME)


def test_a_refresh_token_that_is_no_text() -> None:
    """It cannot be used, so the login goes on without: the next token comes by a login."""
    token = parse(login_request(USER), accessToken="a", refreshToken=12345, expiresIn=60)
    assert (token.access, token.refresh, token.expires_at) == ("a", None, 1_060)


def test_a_session_inside_an_object() -> None:
    """A gateway that wraps its answers wraps the one to the login too."""
    token = parse(login_request(CLIENT), success=True, data={"accessToken": "a", "expiresIn": 60})
    assert (token.access, token.expires_at) == ("a", 1_060)


def test_refresh_token_is_rotated() -> None:
    """A new refresh token takes the place of the one that was used."""
    assert parse(REFRESH, PREVIOUS, accessToken="a", refreshToken="r1").refresh == "r1"


def test_refresh_token_is_kept() -> None:
    """A refresh that brings no new refresh token leaves the old one in force."""
    assert parse(REFRESH, PREVIOUS, accessToken="a").refresh == "r0"


def test_new_login_forgets_the_old_refresh_token() -> None:
    """A login by password follows a refused refresh: the refused refresh token is not kept for another try."""
    assert parse(login_request(USER), PREVIOUS, accessToken="a").refresh is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"accessToken":null}',
        b'{"accessToken":""}',
        b'{"accessToken":"a b"}',
        b'{"accessToken":"s3cret\\r\\nX-Evil: 1"}',
        '{"accessToken":"s3cret\u00e9"}'.encode(),
        b'{"accessToken":["s3cret"]}',
        b'{"accessToken":"s3cret' + b"x" * MAX_TOKEN + b'"}',
        b'{"x":' * 100_000,
    ],
)
def test_unusable_answers(body: bytes) -> None:
    """An answer without a token that a header can carry is an error of ours, and none of it is repeated."""
    with pytest.raises(UnreadableAnswer) as caught:
        parse_token(login_request(USER), body, now=0, share=0.8, previous=None)
    assert "s3cret" not in str(caught.value)
    assert "users.login" in str(caught.value)


def test_no_repr_shows_a_secret() -> None:
    """Nothing that may stand in a traceback or a log shows a secret, a token or a refresh token."""
    things = [CLIENT, USER, PREVIOUS, login_request(CLIENT), login_request(USER), REFRESH]
    text = " ".join(map(repr, things))
    for secret in ("client-secret", "user-password", "'a0'", "r0"):
        assert secret not in text


def test_a_service_client_wins_over_a_user() -> None:
    """With both logins set, the production one is used; with none, the error names the settings."""
    user = {"username": "joe", "password": SecretStr("user-password")}
    client = {"client_id": "c", "client_secret": SecretStr("client-secret")}
    assert credentials_of(ApiSettings(**user, **client)).is_client
    assert not credentials_of(ApiSettings(**user)).is_client
    with pytest.raises(SettingsError, match="ORDERSYNC_API__CLIENT_ID"):
        credentials_of(ApiSettings())
