"""A cluster of three masters and three replicas on loopback, as real processes with a password."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS

from ordersync_consumer.servers.cluster import slot_of
from tests.support.programs import login_settings
from tests.support.servers import Server, Servers, free_ports
from tests.support.waiting import wait_for
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer

ACCOUNTS = ("north", "delta", "beta")
"""Their slots are on different nodes."""
PASSWORD = "words-of-the-nodes"
MASTERS = 3


class Cluster(Servers):
    """The nodes. `whole`: while a slot has no node, none answers for any slot, as by default of the servers."""

    def __init__(self, binary: str | None = None, *, whole: bool = True) -> None:
        super().__init__(binary)
        ports = free_ports(4 * MASTERS)
        self.nodes = []
        for port, bus in zip(ports[: 2 * MASTERS], ports[2 * MASTERS :], strict=True):
            options = (
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", str(bus)),
                *("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"),
                *("--cluster-require-full-coverage", "yes" if whole else "no"),
            )
            folder = self._folder_of(port)
            self.nodes.append(Server(folder, self._binary, *options, password=PASSWORD, port=port))
        self._buses = dict(zip(ports, ports[2 * MASTERS :], strict=False))
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])
        self.url = f"redis+cluster://:{PASSWORD}@{hosts}"

    def _start(self) -> None:
        for node in self.nodes:
            node.start()
        masters, replicas = self.nodes[:MASTERS], self.nodes[MASTERS:]
        first = masters[0]
        for at, master in enumerate(masters):
            begin, end = at * SLOTS // MASTERS, (at + 1) * SLOTS // MASTERS
            self.ask(master, "CLUSTER ADDSLOTSRANGE", begin, end - 1)
            self.ask(master, "CLUSTER SET-CONFIG-EPOCH", at + 1)
        for node in self.nodes[1:]:
            self.ask(node, "CLUSTER MEET", "127.0.0.1", first.port, self._buses[first.port])
        wait_for(lambda: all(len(self.ask(node, "CLUSTER NODES")) == len(self.nodes) for node in self.nodes))
        for replica, master in zip(replicas, masters, strict=True):
            self.ask(replica, "CLUSTER REPLICATE", self._id(master))
        wait_for(lambda: all(self._is_ready(node) for node in self.nodes))

    def _end(self) -> None:
        for node in self.nodes:
            node.stop(kill=True)

    def ask(self, node: Server, *command: Any) -> Any:
        """The answer of one node."""
        with redis.Redis.from_url(node.url, decode_responses=True) as client:
            return client.execute_command(*command)

    def is_up(self, node: Server) -> bool:
        """True if a node answers."""
        try:
            return bool(self.ask(node, "PING"))
        except redis.exceptions.ConnectionError:
            return False

    def master_of(self, key: str) -> Server:
        """The node that serves a key, as most of the others say."""
        port = self._port_of(slot_of(key))
        return next(node for node in self.nodes if node.port == port)

    def fail_over(self, key: str) -> Server:
        """Kill the master of a key, and wait until its replica has taken its place."""
        old = self.master_of(key)
        old.stop(kill=True)
        wait_for(lambda: self.master_of(key) is not old)
        return self.master_of(key)

    def take_away(self, key: str) -> list[Server]:
        """Kill the master of a key and its replicas, so that nothing takes its place; return them, the master last."""
        master = self.master_of(key)
        away = [*self._replicas_of(master), master]
        for node in away:
            node.stop(kill=True)
        return away

    def freeze(self, key: str) -> list[Server]:
        """Freeze the master of a key and its replicas; return them."""
        master = self.master_of(key)
        frozen = [*self._replicas_of(master), master]
        for node in frozen:
            node.freeze()
        return frozen

    def _replicas_of(self, master: Server) -> list[Server]:
        addresses = self.ask(master, "CLUSTER REPLICAS", self._id(master))
        return [node for node in self.nodes if f"127.0.0.1:{node.port}" in addresses]

    def move(self, key: str, *, pause: float = 0.0) -> Server:
        """Move the slot of a key to another master, key by key with pauses in between; the new one."""
        slot, old = slot_of(key), self.master_of(key)
        masters = {self._port_of(begin) for begin in range(0, SLOTS, SLOTS // (2 * MASTERS))}
        new = next(node for node in self.nodes if node.port in masters - {old.port})
        self.ask(new, "CLUSTER SETSLOT", slot, "IMPORTING", self._id(old))
        self.ask(old, "CLUSTER SETSLOT", slot, "MIGRATING", self._id(new))
        while names := self.ask(old, "CLUSTER GETKEYSINSLOT", slot, 1):
            self.ask(old, "MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *names)
            time.sleep(pause)
        for node in (new, old, *(each for each in self.nodes if each.port in masters - {old.port, new.port})):
            self.ask(node, "CLUSTER SETSLOT", slot, "NODE", self._id(new))
        return new

    def _port_of(self, slot: int) -> int:
        for node in self.nodes:
            try:
                ranges = self.ask(node, "CLUSTER SLOTS")
            except redis.exceptions.ConnectionError:
                continue
            for first, last, master, *_ in ranges:
                if int(first) <= slot <= int(last):
                    return int(master[1])
        raise AssertionError(f"nobody serves slot {slot}")

    def _id(self, node: Server) -> str:
        return str(self.ask(node, "CLUSTER MYID"))

    def _is_ready(self, node: Server) -> bool:
        state = self.ask(node, "CLUSTER INFO")["cluster_state"] == "ok"
        facts = self.ask(node, "INFO", "replication")
        is_replica = node in self.nodes[MASTERS:]
        linked = facts.get("master_link_status") == "up" if is_replica else facts.get("connected_slaves") == 1
        return state and linked and len(self.ask(node, "CLUSTER SLOTS")) == MASTERS


def settings_of(shop: SandboxServer, cluster: Cluster, queue: Server, folder: Path) -> dict[str, str]:
    """Return the settings of a worker that serves these accounts of a shop with a cluster."""
    file = folder / "accounts.toml"
    file.write_text(
        "".join(
            f'[accounts.{name}.api]\nbase_url = "{shop.url}"\nclient_id = "{CLIENT_ID}"\n'
            f'client_secret = "{CLIENT_SECRET}"\npage_size = 10\nmax_concurrency = 1\nrequests_per_second = 30\n'
            for name in ACCOUNTS
        )
    )
    file.chmod(0o600)
    settings = login_settings(shop, cluster.url, folder, accounts_file=str(file), poll__complete_every="3")
    kept = {name: value for name, value in settings.items() if not name.startswith("api__")}
    return {**kept, "redis__queue_url": queue.url}
