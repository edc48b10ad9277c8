"""What a gateway may ask for beside the login: headers with keys, authorities of one's own, client certificates."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from tests.support.commands import ordersync
from tests.support.key_gate import HEADER, KeyGate
from tests.support.programs import Program, login_settings
from tests.support.proxy import Proxy
from tests.support.tls import Certificate, certificate
from worker.sandbox import CLIENT_SECRET, SandboxServer

KEY, NEW = "subscription-key-1", "subscription-key-2"


def port_of(sandbox: SandboxServer) -> int:
    port = urlsplit(sandbox.url).port
    assert port is not None
    return port


def headers(key: str) -> str:
    return json.dumps({HEADER: key})


# Headers


def test_headers_go_with_every_request(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """With the login and with the pages; without them there is no login, and the key is shown nowhere."""
    with KeyGate(port_of(sandbox), KEY) as gate:
        settings = login_settings(sandbox, redis_url, tmp_path / "data") | {"api__base_url": gate.url}
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert (done.returncode, set(gate.sent)) == (2, {""})
        done = ordersync("run", "--once", cwd=tmp_path, **settings, api__headers=headers(KEY))
        assert done.returncode == 0, done.stderr
        assert set(gate.sent) == {"", KEY}
        told = done.stdout + done.stderr
        for words in (("doctor",), ("doctor", "--json"), ("config", "show"), ("config", "show", "--json")):
            done = ordersync(*words, cwd=tmp_path, **settings, api__headers=headers(KEY))
            assert done.returncode == 0
            told += done.stdout + done.stderr
        assert f'ORDERSYNC_API__HEADERS={{"{HEADER}": "**********"}}' in told
        gate.key = NEW
        for words, code in ((("run", "--once"), 3), (("doctor",), 2)):
            done = ordersync(*words, cwd=tmp_path, **settings, api__headers=headers(KEY), log__level="debug")
            assert done.returncode == code
            assert "invalid subscription key [hidden]" in done.stdout + done.stderr
            told += done.stdout + done.stderr
        assert KEY not in told


@pytest.mark.anyio
async def test_a_rotated_key_is_read(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """A secret file for each header; after the refusal it is read anew, as the secret of the login is."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    file = folder / f"ORDERSYNC_API__HEADERS__{HEADER}"
    file.write_text(KEY, encoding="utf-8")
    with KeyGate(port_of(sandbox), KEY) as gate:
        settings = login_settings(sandbox, redis_url, tmp_path / "data", secrets_dir=str(folder))
        with Program(tmp_path, **settings | {"api__base_url": gate.url}) as program:
            await program.logged("poll_done")
            file.write_text(NEW, encoding="utf-8")
            gate.key = NEW
            line = await program.logged("secrets_read_anew")
            assert line["changed"] == ["headers"]
            polls = len(program.logs("poll_done"))
            await program.logged("poll_done", polls + 1)
            assert KEY not in program.err
            assert NEW not in program.err


@pytest.mark.anyio
async def test_an_echoed_key_is_stored_nowhere(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path
) -> None:
    """A gateway repeats the key in its refusal: run records, the status and the log have the rest of its words."""
    with KeyGate(port_of(sandbox), KEY) as gate:
        settings = login_settings(sandbox, redis_url, tmp_path / "data", api__headers=headers(KEY))
        settings["api__base_url"] = gate.url
        with Program(tmp_path, **settings) as program:
            await program.logged("poll_done")
            gate.key = NEW
            line = await program.logged("poll_failed")
            assert "invalid subscription key [hidden]" in line["error"]
            told = program.err
        with redis.Redis.from_url(redis_url) as client:
            told += str(client.xrange("ordersync:{default}:runs"))
        for words in (("runs",), ("runs", "--json"), ("status",), ("status", "--json")):
            told += ordersync(*words, cwd=tmp_path, **settings).stdout
        assert told.count("invalid subscription key [hidden]") > 2
        assert KEY not in told


def test_headers_of_accounts(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """An account has its own, also from files; those of the environment go to the gateway of the environment alone."""
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="utf-8")
    login = f'client_id = "client"\nclient_secret = "{CLIENT_SECRET}"'
    (tmp_path / "accounts.toml").write_text(
        f"""
        [accounts.shared.api]
        {login}
        [accounts.own.api]
        {login}
        headers_file = {{ "{HEADER}" = "key" }}
        [accounts.other.api]
        {login}
        base_url = "https://other.example"
        [accounts.other.poll]
        since = 2026-03-01
        snapshot = "silent"
        """,
        encoding="utf-8",
    )
    done = ordersync(
        "config",
        "show",
        "--json",
        cwd=tmp_path,
        accounts_file="accounts.toml",
        api__headers='{"X-Key": "abc"}',
    )
    shown = json.loads(done.stdout)["accounts"]
    assert {name: list(account["api"]["headers"]) for name, account in shown.items()} == {
        "shared": ["X-Key"],
        "own": [HEADER],
        "other": [],
    }
    assert KEY not in done.stdout
    assert [shown[name]["since"] for name in ("own", "other")] == [None, "2026-03-01T00:00:00.000Z"]
    assert [shown[name]["snapshot"] for name in ("own", "other")] == ["publish", "silent"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"Authorization": "x"}', "the worker sets the header Authorization itself"),
        ('{"X Key": "x"}', "'X Key' is not the name of a header"),
        ('{"X-Key": "a\\nb"}', "the value of X-Key must be printable ASCII characters"),
        ('{"X-Key": ""}', "the value of X-Key must be printable ASCII characters"),
        ("X-Key: secret-key", "ORDERSYNC_API__HEADERS"),
    ],
)
def test_wrong_headers(tmp_path: Path, value: str, expected: str) -> None:
    """Said with the name of the setting, and without the value."""
    done = ordersync("config", "show", cwd=tmp_path, api__headers=value)
    assert done.returncode == 2
    assert "ORDERSYNC_API__HEADERS" in done.stderr
    assert expected in done.stderr
    assert "secret-key" not in done.stderr


# Certificates


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The certificate of the gateway."""
    return certificate(tmp_path_factory.mktemp("gateway"), "IP:127.0.0.1")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The certificate of the worker."""
    return certificate(tmp_path_factory.mktemp("client"), "DNS:worker.example")


def test_an_authority_of_ones_own(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, ours: Certificate
) -> None:
    """Unknown authorities are refused; the one of `CA_FILE` is trusted, for the names in its certificates."""
    with Proxy("127.0.0.1", port_of(sandbox), ours.server()) as gateway:
        settings = login_settings(sandbox, redis_url, tmp_path / "data", api__attempts="1")
        settings["api__base_url"] = f"https://{gateway.address}"
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert done.returncode == 3
        assert "self-signed certificate" in done.stderr
        done = ordersync("run", "--once", cwd=tmp_path, **settings, api__ca_file=str(ours.file))
        assert done.returncode == 0, done.stderr
        settings |= {"api__base_url": f"https://localhost:{gateway.port}", "account": "other"}
        done = ordersync("run", "--once", cwd=tmp_path, **settings, api__ca_file=str(ours.file))
        assert done.returncode == 3
        assert "certificate is not valid for 'localhost'" in done.stderr


def test_a_gateway_that_wants_a_certificate(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, ours: Certificate, client: Certificate
) -> None:
    """The worker shows its own; certificate and key may be in one file."""
    both = tmp_path / "both.pem"
    both.write_text(client.file.read_text() + client.key.read_text(), encoding="utf-8")
    with Proxy("127.0.0.1", port_of(sandbox), ours.server(clients=client)) as gateway:
        settings = login_settings(
            sandbox, redis_url, tmp_path / "data", api__attempts="1", api__ca_file=str(ours.file)
        )
        settings["api__base_url"] = f"https://{gateway.address}"
        assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 3
        pair = {"api__client_cert_file": str(client.file), "api__client_key_file": str(client.key)}
        for files in (pair, {"api__client_cert_file": str(both)}):
            done = ordersync("run", "--once", cwd=tmp_path, **settings, **files)
            assert done.returncode == 0, done.stderr


def test_a_redis_that_wants_a_certificate(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, ours: Certificate, client: Certificate
) -> None:
    """The files of the section Redis hold for the daemon and for every command."""
    port = urlsplit(redis_url).port
    assert port is not None
    with Proxy("127.0.0.1", port, ours.server(clients=client)) as server:
        settings = login_settings(
            sandbox, f"rediss://{server.address}/0", tmp_path / "data", redis__ca_file=str(ours.file)
        )
        done = ordersync("status", cwd=tmp_path, **settings)
        assert done.returncode == 3
        settings |= {
            "redis__client_cert_file": str(client.file),
            "redis__client_key_file": str(client.key),
        }
        for words in (("run", "--once"), ("status",), ("tail", "orders", "--no-follow"), ("doctor",)):
            done = ordersync(*words, cwd=tmp_path, **settings)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("section", ["api", "redis"])
def test_files_that_cannot_be_used(
    sandbox: SandboxServer, tmp_path: Path, client: Certificate, section: str
) -> None:
    """Missing, no certificate, or a key with a password, for which nobody is asked: exit 2, and the file is named."""
    locked, broken = tmp_path / "locked.key", tmp_path / "broken.pem"
    command = (
        "openssl",
        "pkcs8",
        "-topk8",
        "-in",
        str(client.key),
        "-out",
        str(locked),
        "-passout",
        "pass:abcdef",
    )
    subprocess.run(command, check=True, capture_output=True)
    broken.write_text("no certificate", encoding="utf-8")
    settings = login_settings(sandbox, "rediss://127.0.0.1:1/0", tmp_path / "data")
    settings["api__base_url"] = "https://127.0.0.1:1"
    if section == "api":
        settings["redis__url"] = "redis://127.0.0.1:1/0"
    wrong = [
        ({"ca_file": tmp_path / "nowhere.pem"}, "nowhere.pem"),
        ({"ca_file": broken}, "broken.pem"),
        ({"client_cert_file": broken}, "broken.pem"),
        ({"client_cert_file": client.file, "client_key_file": locked}, client.file.name),
        ({"client_key_file": locked}, "client_key_file needs client_cert_file"),
    ]
    for files, expected in wrong:
        more = {f"{section}__{name}": str(file) for name, file in files.items()}
        done = ordersync("run", "--once", cwd=tmp_path, **settings, **more)
        assert (done.returncode, expected in done.stderr) == (2, True), (files, done.stderr)


def test_files_for_a_redis_without_tls(tmp_path: Path) -> None:
    """They would protect nothing."""
    done = ordersync("config", "show", cwd=tmp_path, redis__url="redis://h/0", redis__ca_file="ca.pem")
    assert done.returncode == 2
    assert "ca_file needs addresses that begin with rediss://" in done.stderr
