import base64
import json
from typing import Any

import pytest

from worker.sandbox import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME, Auth, Lifetimes
from worker.sandbox.answers import Answer


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def read(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200
    decoded: dict[str, Any] = json.loads(answer.body)
    return decoded


def bearer(answer: Answer) -> bytes:
    token: str = read(answer)["accessToken"]
    return b"Bearer " + token.encode()


def client(auth: Auth) -> Answer:
    return auth.client_token(body(clientId=CLIENT_ID, clientSecret=CLIENT_SECRET))


def user(auth: Auth) -> Answer:
    return auth.login(body(username=USERNAME, password=PASSWORD))


def test_client_token_answer() -> None:
    """Client credentials give an access token for a day and no refresh token."""
    answer = read(client(Auth()))
    assert set(answer) == {"accessToken", "tokenType", "expiresIn"}
    assert (answer["tokenType"], answer["expiresIn"]) == ("Bearer", 86_400)


def test_client_token_takes_snake_case() -> None:
    """The body keys of the older guide are taken too."""
    assert Auth().client_token(body(client_id=CLIENT_ID, client_secret=CLIENT_SECRET)).status == 200


def test_login_answer_has_the_fields_of_the_sample() -> None:
    """The login answer has exactly the fields of the vendor's sample, in their order."""
    answer = read(user(Auth()))
    assert list(answer) == [
        "accessToken",
        "scope",
        "tokenType",
        "refreshToken",
        "expiresIn",
        "identityToken",
        "id",
        "shortId",
        "username",
        "email",
        "firstName",
        "lastName",
        "status",
        "dateCreated",
        "attributes",
        "roles",
    ]
    assert answer["expiresIn"] == 900
    assert list(answer["roles"][0]["permissionSet"][0])[-2:] == [
        "availablePermissions",
        "associatedPermissions",
    ]


def test_access_tokens_are_shaped_like_jwts() -> None:
    """Three parts, the first a JSON header that names RS256, as in the sample; no two tokens are the same."""
    auth = Auth()
    first, second = read(client(auth))["accessToken"], read(client(auth))["accessToken"]
    header, _, _ = first.split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == "RS256"
    assert first != second


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("client_token", {"clientId": CLIENT_ID, "clientSecret": "no"}),
        ("client_token", {"clientId": "no", "clientSecret": CLIENT_SECRET}),
        ("login", {"username": USERNAME, "password": "no"}),
        ("login", {"username": "no", "password": PASSWORD}),
        ("refresh", {"refreshToken": "no"}),
    ],
)
def test_wrong_credentials_are_401(method: str, fields: dict[str, str]) -> None:
    """A wrong id, name, secret or refresh token is refused with a sentence, and gives no token."""
    auth = Auth()
    answer: Answer = getattr(auth, method)(body(**fields))
    assert answer.status == 401
    assert json.loads(answer.body)["errors"][0]["errorMessage"].endswith(".")
    assert auth.issued == 0


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"clientId": "x"}', b'{"clientId": 1, "clientSecret": 2}']
)
def test_an_unusable_body_is_400(raw: bytes) -> None:
    """A body that is no JSON object, or lacks a field, is a bad request."""
    assert Auth().client_token(raw).status == 400


def test_the_missing_field_is_named() -> None:
    """The 400 says which field is missing."""
    problem = json.loads(Auth().login(body(username=USERNAME)).body)["errors"][0]
    assert problem["propertyName"] == "password"


def test_tokens_end_with_their_lifetime() -> None:
    """A token is good until its lifetime is over, and not a moment longer."""
    clock = Clock()
    auth = Auth(lifetimes=Lifetimes(client=10, user=5), clock=clock)
    long, short = bearer(client(auth)), bearer(user(auth))
    clock.now += 4.9
    assert (auth.accepts(long), auth.accepts(short)) == (True, True)
    clock.now += 0.1
    assert (auth.accepts(long), auth.accepts(short)) == (True, False)
    clock.now += 5
    assert auth.accepts(long) is False


def test_expires_in_tells_the_lifetime() -> None:
    """`expiresIn` follows the configured lifetime, in whole seconds."""
    auth = Auth(lifetimes=Lifetimes(client=0.5, user=7))
    assert read(client(auth))["expiresIn"] == 1
    assert read(user(auth))["expiresIn"] == 7


def test_a_header_without_a_good_token_is_refused() -> None:
    """Missing, empty, unknown and non-Bearer credentials are refused; the scheme's case does not matter."""
    auth = Auth()
    good = bearer(client(auth))
    assert auth.accepts(b"bearer " + good[7:])
    for header in (None, b"", b"Bearer", b"Bearer x", b"Basic " + good[7:], good[7:]):
        assert not auth.accepts(header)


def test_refresh_rotates() -> None:
    """A refresh token works once: it gives a new session and is refused afterwards, the new one works."""
    auth = Auth()
    first = read(user(auth))["refreshToken"]
    renewed = auth.refresh(body(refreshToken=first))
    assert auth.accepts(bearer(renewed))
    assert auth.refresh(body(refreshToken=first)).status == 401
    assert auth.refresh(body(refreshToken=read(renewed)["refreshToken"])).status == 200


def test_refresh_tokens_end_with_their_lifetime() -> None:
    """An old refresh token is refused."""
    clock = Clock()
    auth = Auth(lifetimes=Lifetimes(refresh=60), clock=clock)
    token = read(user(auth))["refreshToken"]
    clock.now += 60
    assert auth.refresh(body(refreshToken=token)).status == 401


def test_expire_tokens_leaves_refresh_tokens() -> None:
    """Expired access tokens can be replaced with the refresh token."""
    auth = Auth()
    session = user(auth)
    auth.expire_tokens()
    assert not auth.accepts(bearer(session))
    assert auth.refresh(body(refreshToken=read(session)["refreshToken"])).status == 200


def test_revoke_ends_whole_sessions() -> None:
    """After a revocation neither access nor refresh token is good; a new login is."""
    auth = Auth()
    session = user(auth)
    auth.revoke()
    assert not auth.accepts(bearer(session))
    assert auth.refresh(body(refreshToken=read(session)["refreshToken"])).status == 401
    assert auth.accepts(bearer(client(auth)))


def test_issued_counts_tokens() -> None:
    """Every access token handed out is counted, so that tests can see needless logins."""
    auth = Auth()
    client(auth)
    user(auth)
    assert auth.issued == 2
