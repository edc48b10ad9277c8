"""A master, a replica and three sentinels, as real processes with passwords."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import redis

from tests.support.servers import Server, Servers, free_ports
from tests.support.waiting import wait_for

NAME = "shop"
PASSWORD = "words-of-the-master"
SENTINEL_PASSWORD = "words-of-the-sentinels"
_SETTINGS = """
port {port}
bind 127.0.0.1
dir {folder}
requirepass {sentinel}
sentinel myid {id:040x}
sentinel sentinel-pass {sentinel}
sentinel monitor {name} 127.0.0.1 {master} 2
sentinel auth-pass {name} {password}
sentinel down-after-milliseconds {name} 500
sentinel failover-timeout {name} 2000
sentinel known-replica {name} 127.0.0.1 {replica}
"""


class Sentinels(Servers):
    """The servers and the sentinels."""

    def __init__(self, binary: str | None = None) -> None:
        super().__init__(binary)
        first, second, *self.ports = free_ports(5)
        self.servers = [
            Server(
                self._folder_of(port),
                self._binary,
                "--repl-diskless-sync-delay",
                "0",
                password=PASSWORD,
                port=port,
            )
            for port in (first, second)
        ]
        self._sentinels: list[subprocess.Popen[bytes]] = []
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.url = f"redis+sentinel://:{PASSWORD}@{hosts}/{NAME}/0?sentinel_password={SENTINEL_PASSWORD}"

    def _start(self) -> None:
        for server in self.servers:
            server.start()
        first, second = self.servers
        with redis.Redis.from_url(second.url) as client:
            client.replicaof("127.0.0.1", first.port)
            wait_for(lambda: client.info("replication").get("master_link_status") == "up")
        for port in self.ports:
            folder = self._folder_of(port)
            file = folder / "sentinel.conf"
            file.write_text(
                _SETTINGS.format(
                    port=port, id=port, folder=folder, name=NAME, master=first.port, replica=second.port,
                    password=PASSWORD, sentinel=SENTINEL_PASSWORD,
                )
                + "".join(
                    f"sentinel known-sentinel {NAME} 127.0.0.1 {other} {other:040x}\n"
                    for other in self.ports
                    if other != port
                )
            )  # fmt: skip
            self._sentinels.append(
                subprocess.Popen([self._binary, str(file), "--sentinel"], stdout=subprocess.DEVNULL)
            )
        for port in self.ports:
            wait_for(lambda port=port: self._is_ready(port))  # type: ignore[misc] # called at once

    def _end(self) -> None:
        for sentinel in self._sentinels:
            sentinel.kill()
            sentinel.wait()
        for server in self.servers:
            server.stop(kill=True)

    @property
    def master(self) -> Server:
        """The server that the sentinels name."""
        host, port = self._ask(self.ports[-1], lambda client: client.sentinel_get_master_addr_by_name(NAME))  # type: ignore[no-untyped-call]
        assert host == "127.0.0.1"
        return next(server for server in self.servers if server.port == int(port))

    def fail_over(self) -> Server:
        """Kill the master; return the new one."""
        old = self.master
        old.stop(kill=True)
        wait_for(lambda: self.master is not old)
        return self.master

    def rejoin(self, server: Server) -> None:
        """Start a server again, as a replica of the master, which sentinels do in their own time.

        On a busy machine they may take the master for dead meanwhile, and then the other one follows.
        """
        server.start()
        with redis.Redis.from_url(server.url) as client:
            client.replicaof("127.0.0.1", self.master.port)
        wait_for(lambda: any(map(self.is_replica, self.servers)))

    def is_replica(self, server: Server) -> bool:
        """True if a server replicates the master."""
        with redis.Redis.from_url(server.url) as client:
            try:
                return bool(client.info("replication").get("master_link_status") == "up")
            except redis.exceptions.ConnectionError:  # of a server whose role has changed
                return False

    def _ask(self, port: int, call: Callable[[redis.Redis], object]) -> tuple[str, str]:
        with redis.Redis(port=port, password=SENTINEL_PASSWORD, decode_responses=True) as client:
            return call(client)  # type: ignore[return-value] # a pair

    def _is_ready(self, port: int) -> bool:
        """True if a sentinel knows the other two and the replica."""
        try:
            with redis.Redis(port=port, password=SENTINEL_PASSWORD, decode_responses=True) as client:
                state = client.execute_command("SENTINEL MASTERS")[NAME]
        except redis.exceptions.RedisError:
            return False
        return int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 1
