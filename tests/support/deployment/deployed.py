"""A server as it is deployed: deploy/redis/redis.conf, and the users that deploy/make-secrets makes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support.paths import ROOT
from tests.support.servers import free_port
from tests.support.tools import program
from tests.support.waiting import PATIENCE
from worker.keys import Keys
from worker.redis.embedded.launch import binary as valkey_binary

DEPLOY = ROOT / "deploy"
SUPERUSER = "user root on nopass ~* &* +@all"
"""Looks on in the tests; no deployment has it."""
KEYS = Keys("shop")
"""The keys of the account for whose consumers the secrets are made."""
STREAM, DEAD = KEYS.stream("orders"), KEYS.dead("orders")


def make_secrets(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run deploy/make-secrets."""
    return subprocess.run(
        [str(DEPLOY / "make-secrets"), *options, str(folder)], capture_output=True, text=True, check=True
    )


class DeployedServer:
    """A Redis or Valkey with our configuration and our users. `secrets` holds what make-secrets has made."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.port, self.secrets, self._folder, self._binary = free_port(), folder / "secrets", folder, binary
        make_secrets(self.secrets, "--sandbox", "--redis", f"127.0.0.1:{self.port}")
        make_secrets(
            self.secrets,
            "--consumer",
            "warehouse",
            "--account",
            "shop",
            "--resources",
            "orders",
            "--group",
            "warehouse",
        )
        self._users = folder / "users.acl"
        self._users.write_text((self.secrets / "redis" / "users.acl").read_text() + SUPERUSER + "\n")
        self.configuration = DEPLOY / "redis" / "redis.conf"
        self._process: subprocess.Popen[bytes]

    def url(self, user: str) -> str:
        """The address for a user, as it stands in its secret."""
        return (self.secrets / user / "ORDERSYNC_REDIS__URL").read_text()

    def client(self, user: str) -> Any:
        """A client of redis-py."""
        if user in {"root", "health"}:
            return redis.Redis(port=self.port, username=user, password="-", lib_name=None, lib_version=None)
        return redis.Redis.from_url(self.url(user))

    def start(self) -> None:
        """Start it and wait until it answers."""
        where = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._binary, str(self.configuration), *where, "--aclfile", str(self._users)],
                stdout=log,
                stderr=log,
            )
        with self.client("health") as client:
            for _ in range(1000):
                if self._process.poll() is not None:
                    break
                try:
                    client.ping()
                except redis.ConnectionError:
                    time.sleep(0.01)
                else:
                    return
        raise AssertionError((self._folder / "log").read_text())

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(PATIENCE)

    def refusals(self) -> list[dict[str, Any]]:
        """What its users were refused since this was asked last."""
        with self.client("root") as client:
            found = client.acl_log()
            client.acl_log_reset()
        return [
            {name: entry[name] for name in ("username", "reason", "context", "object")} for entry in found
        ]


def server_binary(name: str) -> str:
    """The program of a server; the test ends where it is not there."""
    return valkey_binary() if name == "valkey" else program("redis-server")


@contextmanager
def deployed(name: str, folder: Path) -> Iterator[DeployedServer]:
    """Such a server of the kind `valkey` or `redis`, while the block runs."""
    server = DeployedServer(server_binary(name), folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
