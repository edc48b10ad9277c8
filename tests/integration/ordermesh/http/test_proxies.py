"""Proxies and certificates: what stands between the worker and the gateway."""

from __future__ import annotations

import ssl

import httpx
import pytest

from tests.support.scripted_server import Lab, http, lab
from tests.support.sending import ask, sender
from tests.support.servers import free_port
from tests.support.tls import Certificate, certificate
from worker.errors import SettingsError
from worker.ordermesh.http.transport import environment_proxy

pytestmark = pytest.mark.anyio


async def test_proxy(served: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is used: the whole address goes to the proxy."""
    monkeypatch.setenv("HTTP_PROXY", served.url)
    async with sender("http://origin.invalid", allow_http=True) as made:
        response = await made.send("GET", "http://origin.invalid/ok", headers={})
    assert response.status_code == 200
    assert served.seen[0].startswith(b"GET http://origin.invalid/ok ")


async def test_proxy_login(served: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password of a proxy are sent to it, and stand in no error."""
    monkeypatch.setenv("HTTP_PROXY", served.url.replace("//", "//joe:proxy-pass@"))
    async with sender("http://origin.invalid", allow_http=True) as made:
        await made.send("GET", "http://origin.invalid/ok", headers={})
    assert b"Proxy-Authorization: Basic " in served.seen[0]
    monkeypatch.setenv("HTTP_PROXY", f"http://joe:proxy-pass@127.0.0.1:{free_port()}")
    async with sender("http://origin.invalid", allow_http=True) as made:
        with pytest.raises(httpx.ProxyError) as caught:
            await made.send("GET", "http://origin.invalid/ok", headers={})
    assert "proxy-pass" not in str(caught.value)


async def test_proxy_that_refuses_the_tunnel(served: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that answers CONNECT with 403 is a proxy error."""
    served.default = http(b"", status="403 Forbidden")
    monkeypatch.setenv("HTTPS_PROXY", served.url)
    async with sender("https://origin.invalid") as made:
        with pytest.raises(httpx.ProxyError):
            await made.send("GET", "https://origin.invalid/ok", headers={})


@pytest.mark.parametrize("entry", ["127.0.0.1", "*", "other.example,127.0.0.1:{port}"])
async def test_no_proxy(served: Lab, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """NO_PROXY leaves a host, or a host and port, out."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", entry.format(port=served.url.rpartition(":")[2]))
    assert (await ask(served, "/x")).status_code == 200


async def test_other_proxies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SOCKS proxy, which would be spoken to as if it were HTTP, is a wrong setting that is named."""
    monkeypatch.setenv("ALL_PROXY", "socks5://joe:proxy-pass@127.0.0.1:9")
    with pytest.raises(SettingsError, match="socks5 proxy") as caught:
        environment_proxy("https://api.ordermesh.io")
    assert "HTTPS_PROXY" in str(caught.value)
    assert "proxy-pass" not in str(caught.value)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    """Self-signed certificates, for 127.0.0.1 and for another name."""
    folder = tmp_path_factory.mktemp("tls")
    return {name: certificate(folder, name) for name in ("IP:127.0.0.1", "DNS:other.example")}


async def test_tls_with_a_known_authority(certificates: dict[str, Certificate]) -> None:
    """A certificate of an authority that one has named is accepted."""
    pair = certificates["IP:127.0.0.1"]
    ours = ssl.create_default_context(cafile=pair.file)
    async with lab(pair.server()) as served, sender(served.url, verify=ours) as made:
        response = await made.send("GET", served.url + "/x", headers={})
    assert response.status_code == 200


@pytest.mark.parametrize("host", ["IP:127.0.0.1", "DNS:other.example"], ids=["unknown CA", "other name"])
async def test_tls_refused(certificates: dict[str, Certificate], host: str) -> None:
    """An unknown authority, or a certificate for another name: no connection, and nothing was sent."""
    pair = certificates[host]
    ours = ssl.create_default_context(cafile=pair.file) if host.startswith("DNS") else None
    async with lab(pair.server()) as served, sender(served.url, verify=ours) as made:
        with pytest.raises(httpx.ConnectError):
            await made.send("GET", served.url + "/x", headers={})
        assert served.seen == []


async def test_tls_to_a_plain_port(served: Lab) -> None:
    """TLS to a port that speaks none is a failed connection."""
    url = served.url.replace("http://", "https://")
    async with sender(url, timeout=1) as made:
        with pytest.raises(httpx.TransportError):
            await made.send("GET", url, headers={})
