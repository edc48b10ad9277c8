"""Ids in paths: each reaches the wire encoded, as one segment, or is refused."""

from __future__ import annotations

import base64
import traceback
from urllib.parse import unquote

import msgspec
import pytest

from tests.support.scripted_server import at_work, http, lab, lab_account
from tests.support.servers import free_port
from worker.errors import ApiError, OrderMeshError, SettingsError, Unaddressable
from worker.ordermesh.http.transport import environment_proxy

pytestmark = pytest.mark.anyio

IDS = (
    "%2e%2e", "%2E", "%252e", "a/b", "//", "/..", "a\\..", "..\\", "a?b=c", "a#b", "a;b", "..a;",
    "a b", "a\tb", "a\r\nHost: x", "a\x00b", "\x7f", "é", "\u202e", "...", "a" * 2000, "a+b", "a&b", "@",
    ":", "!$'()*,=",
)  # fmt: skip
BROKEN = ("http://u:hunter2@[::1", "http://", "http://a:b:hunter2", "http://u:hunter2@h:x", "://")
"""Addresses that no proxy can have."""


@pytest.mark.parametrize("identifier", IDS)
async def test_an_id_stays_one_segment(redis_url: str, identifier: str) -> None:
    """What separates segments, a query or lines is encoded; the id that arrives is the one that was asked for."""
    async with lab() as served, at_work(lab_account(served), redis_url) as account:
        client = account.client
        served.default = http(b'{"accessToken":"token","expiresIn":60,"id":"a"}')
        await client.call("orders.get", path={"orderId": identifier})
        target = served.seen[-1].split(b" ", 2)[1].decode("ascii")
        segment = target.rpartition("/")[2]
        assert unquote(segment) == identifier
        assert set(segment) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%!$&'()*+,;=:@"
        )


@pytest.mark.parametrize("identifier", ["", ".", "..", "..;", ".;", "..;x=1", ";a", "a" * 2001])
async def test_an_id_that_is_no_segment_is_refused(redis_url: str, identifier: str) -> None:
    """Nothing is sent, and the error names the parameter."""
    async with lab() as served, at_work(lab_account(served), redis_url) as account:
        client = account.client
        served.default = http(b'{"accessToken":"token","expiresIn":60,"id":"a"}')
        with pytest.raises(Unaddressable, match="orderId") as caught:
            await client.call("orders.get", path={"orderId": identifier})
        assert isinstance(caught.value, ApiError)
        assert len(str(caught.value)) < 300
        assert not [head for head in served.seen if b"/orders/" in head]


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy in the environment, in either spelling."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("HTTP_PROXY", "http"), ("http_proxy", "http"), ("ALL_PROXY", "http"),
        ("HTTPS_PROXY", "https"), ("https_proxy", "https"), ("ALL_PROXY", "https"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("address", BROKEN)
def test_a_broken_proxy_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, scheme: str, address: str
) -> None:
    """A setting of the environment, so an error that names it, without the password."""
    monkeypatch.setenv(name, address)
    with pytest.raises(SettingsError, match=f"{scheme.upper()}_PROXY") as caught:
        environment_proxy(f"{scheme}://gateway.example")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    "exempt",
    ["[", "[::1", "http://u:p@[", ",,;", "*.", "999.0.0.0/99", "a\tb", "\u202e", "(" * 99, "\x1b[2J"],
)
def test_garbage_in_no_proxy_exempts_nothing(monkeypatch: pytest.MonkeyPatch, exempt: str) -> None:
    """It is no pattern of the gateway's name, so the proxy is used, and nothing is raised."""
    monkeypatch.setenv("HTTPS_PROXY", "http://u:hunter2@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", exempt)
    proxy = environment_proxy("https://gateway.example")
    assert proxy is not None
    assert proxy.url.host == "proxy.example"
    monkeypatch.setenv("NO_PROXY", f"{exempt},gateway.example")
    assert environment_proxy("https://gateway.example") is None


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("answers", [True, False], ids=["answers 407", "refuses connections"])
@pytest.mark.parametrize(
    ("name", "scheme"), [("HTTP_PROXY", "http"), ("HTTPS_PROXY", "https"), ("ALL_PROXY", "https")]
)
async def test_a_proxy_that_lets_nothing_through(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, name: str, scheme: str, *, answers: bool
) -> None:
    """One line that says what the proxy did; its login is in no text of the error."""
    async with lab() as served:
        served.default = http(b"", status="407 Proxy Authentication Required")
        port = int(served.url.rpartition(":")[2]) if answers else free_port()
        monkeypatch.setenv(name, f"http://somebody:hunter2@127.0.0.1:{port}")
        account = lab_account(served, attempts=1)
        api = account.api.model_copy(update={"base_url": f"{scheme}://gateway.example"})
        async with at_work(msgspec.structs.replace(account, api=api), redis_url) as working:
            with pytest.raises(OrderMeshError) as caught:
                await working.client.call("orders.get", path={"orderId": "a"})
    said = str(caught.value)
    if not answers:
        assert f"(no connection to the proxy 127.0.0.1:{port}: Connection refused)" in said
    else:
        assert ("the proxy answers 407" if scheme == "https" else "status 407") in said
    assert "\n" not in said
    everything = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in everything
    assert base64.b64encode(b"somebody:hunter2").decode() not in everything
