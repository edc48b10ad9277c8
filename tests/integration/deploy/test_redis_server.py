"""The configuration of deploy/redis, and the secrets that deploy/make-secrets makes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment.deployed import DEPLOY, DeployedServer, make_secrets, server_binary


def test_the_server_is_durable_and_never_evicts(server: DeployedServer, admin: Any) -> None:
    """What the worker asks of a server, in the configuration that is delivered, as this server understood it."""
    config = admin.config_get()
    wanted = {
        "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
        "hash-max-listpack-value": "256", "hash-max-listpack-entries": "256",
    }  # fmt: skip
    assert wanted == {name: config[name] for name in wanted}
    assert int(config["maxmemory"]) == 1 << 30


DEBIANS = Path("/etc/redis/redis.conf")


@pytest.mark.skipif(not DEBIANS.exists(), reason="no redis.conf of Debian")
def test_after_the_configuration_of_debian(tmp_path: Path) -> None:
    """As docs/operate/deploy.md says: our file is included as the last line, and its values are in force."""
    server = DeployedServer(server_binary("redis"), tmp_path)
    place = f"daemonize no\nlogfile ''\npidfile {tmp_path}/pid\ndir {tmp_path}\n"
    ours = f"include {DEPLOY / 'redis' / 'redis.conf'}\naclfile {tmp_path / 'users.acl'}\n"
    server.configuration = tmp_path / "debian.conf"
    server.configuration.write_text(DEBIANS.read_text() + place + ours)
    server.start()
    try:
        with server.client("root") as admin:
            config = admin.config_get()
            assert (config["appendonly"], config["save"], config["maxmemory"]) == ("yes", "", str(1 << 30))
        cli = (
            "redis-cli",
            "-p",
            str(server.port),
            "--user",
            "health",
            "--pass",
            "-",
            "--no-auth-warning",
            "ping",
        )
        assert subprocess.run(cli, capture_output=True, text=True, check=True).stdout == "PONG\n"
    finally:
        server.stop()


def address(folder: Path, user: str) -> str:
    """The secret address of a user."""
    return (folder / user / "ORDERSYNC_REDIS__URL").read_text()


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    """Long, different, unchanged by another run; a new one where one was removed, and its hash with it."""
    folder = tmp_path / "secrets"
    make_secrets(folder)
    users = (folder / "redis" / "users.acl").read_text().splitlines()
    urls = {user: address(folder, user) for user in ("worker", "consumer", "operator", "monitor", "admin")}
    found = [
        re.fullmatch(rf"redis://{user}:([0-9a-f]{{48}})@redis:6379/0", url) for user, url in urls.items()
    ]
    passwords = {match[1] for match in found if match}
    assert len(passwords) == 5
    assert not any(password in line for password in passwords for line in users)
    make_secrets(folder)
    assert (folder / "redis" / "users.acl").read_text().splitlines() == users
    (folder / "consumer" / "ORDERSYNC_REDIS__URL").unlink()
    make_secrets(folder, "--redis", "127.0.0.1:6379")
    assert address(folder, "worker") == urls["worker"].replace("redis:6379", "127.0.0.1:6379")
    again = (folder / "redis" / "users.acl").read_text().splitlines()
    assert [old.split()[1] for old, new in zip(users, again, strict=True) if old != new] == ["consumer"]


@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("-h", 0), ("--redsi", 2)])
def test_the_options_of_make_secrets(tmp_path: Path, option: str, code: int) -> None:
    """The help is an answer; after it a wrong option is named, and nothing is made."""
    done = subprocess.run(
        [str(DEPLOY / "make-secrets"), option, str(tmp_path / "secrets")],
        capture_output=True,
        text=True,
        check=False,
    )
    shown, silent = (done.stderr, done.stdout) if code else (done.stdout, done.stderr)
    assert (done.returncode, silent) == (code, "")
    assert shown.startswith("Makes the secrets of a deployment, a file each")
    assert "FOLDER/worker/ORDERSYNC_SECRET_KEY" in shown
    assert shown.endswith("There is no option --redsi.\n" if code else "under another user.\n")
    assert not (tmp_path / "secrets").exists()


def test_secrets_are_for_their_owner_but_can_be_seen_in_a_container(tmp_path: Path) -> None:
    """A container sees a file and not its folder: the folder keeps others out, the file lets any user in."""
    made = make_secrets(tmp_path / "secrets")
    assert "ORDERSYNC_API__CLIENT_SECRET" in made.stderr
    for path in (tmp_path / "secrets").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o444)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
