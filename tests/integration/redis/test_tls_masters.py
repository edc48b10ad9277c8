"""`rediss+sentinel://` and `rediss+cluster://`: every connection is encrypted, and the names are compared."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.exceptions
from redis import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS

from ordersync_consumer import connect
from tests.support.commands import ordersync
from tests.support.programs import login_settings
from tests.support.servers import free_ports
from tests.support.tls import Certificate, certificate
from tests.support.tools import program
from tests.support.waiting import wait_for
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


class Encrypted:
    """Processes of redis-server, which has TLS, without any plain port."""

    def __init__(self, folder: Path, shown: Certificate) -> None:
        self._folder, self.shown = folder, shown
        self._running: list[subprocess.Popen[bytes]] = []
        self.cluster, self.bus, self.master, self.sentinel = free_ports(4)

    def start(self, port: int, *options: str) -> Redis:
        """Start one; a client of it."""
        folder = self._folder / str(port)
        folder.mkdir()
        file = folder / "redis.conf"
        file.write_text(
            f"port 0\ntls-port {port}\nbind 127.0.0.1\ndir {folder}\ntls-cert-file {self.shown.file}\n"
            f"tls-key-file {self.shown.key}\ntls-ca-cert-file {self.shown.file}\ntls-auth-clients no\n"
            "tls-replication yes\n" + "\n".join(options[1:]) + "\n"
        )
        command = [program("redis-server"), str(file), *filter(None, options[:1])]
        self._running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        client = Redis(port=port, ssl=True, ssl_ca_certs=str(self.shown.file), decode_responses=True)
        wait_for(lambda: _answers(client))
        return client

    def stop(self) -> None:
        """End all."""
        for process in self._running:
            process.kill()
            process.wait()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("tls")
    made = Encrypted(folder, certificate(folder, "IP:127.0.0.1"))
    try:
        with made.start(made.cluster, "", "cluster-enabled yes", "tls-cluster yes") as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
            wait_for(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        made.start(made.master, "").close()
        made.start(made.sentinel, "--sentinel", f"sentinel monitor shop 127.0.0.1 {made.master} 1").close()
        yield made
    finally:
        made.stop()


def test_the_daemon_and_commands(servers: Encrypted, tmp_path: Path) -> None:
    """The certificates of the settings are used for sentinels, masters and nodes."""
    addresses = (
        f"rediss+sentinel://127.0.0.1:{servers.sentinel}/shop/0",
        f"rediss+cluster://127.0.0.1:{servers.cluster}",
    )
    with SandboxServer(orders=5) as shop:
        for at, url in enumerate(addresses):
            settings = login_settings(shop, url, tmp_path / str(at))
            trusting = {**settings, "redis__ca_file": str(servers.shown.file)}
            done = ordersync("run", "--once", cwd=tmp_path, **trusting)
            assert done.returncode == 0, done.stderr
            done = ordersync("doctor", cwd=tmp_path, **settings)
            assert done.returncode != 0
            assert "certificate verify failed" in done.stdout


async def test_a_consumer_of_its_own(servers: Encrypted) -> None:
    """With the certificate in the address."""
    client = connect(f"rediss+cluster://127.0.0.1:{servers.cluster}?ssl_ca_certs={servers.shown.file}")
    assert await client.set("{a}:1", "x")
    await client.aclose()
