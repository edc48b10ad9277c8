"""The port of the embedded Valkey, for programs that cannot use its socket: with a password, and few rights."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from tests.support.commands import ordersync
from tests.support.deployment.deployed import make_secrets
from tests.support.servers import Server, free_port
from tests.support.waiting import eventually
from worker.config.sections import EmbeddedSettings
from worker.errors import RedisUnavailable
from worker.redis import embedded
from worker.redis.connections import connect
from worker.redis.embedded import launch, record

pytestmark = pytest.mark.anyio

STREAM = "ordersync:{default}:stream:orders"


def password(data_dir: Path) -> str:
    """The password, from the file that `status` names."""
    return record.password_file(data_dir).read_text().strip()


def own_password(url: str) -> str:
    """The password of the worker, in the address that only the worker has."""
    found = urlsplit(url).password
    assert found
    return found


async def test_what_a_program_may_do_there(tmp_path: Path) -> None:
    """Read and acknowledge events; nothing without the password, no state and no token, no shutdown."""
    port = free_port()
    async with embedded.server(tmp_path, EmbeddedSettings(port=port)) as running:
        assert record.password_file(tmp_path).stat().st_mode & 0o777 == 0o600
        async with connect(running.url) as own:
            await own.set("ordersync:{default}:token", "secret")
            await own.xadd(STREAM, {"id": "1"})
            await own.xgroup_create(STREAM, "g", "0")
        async with Redis(port=port) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.ping()
        async with Redis(port=port, password=password(tmp_path)) as program:
            ((_, ((entry, _),)),) = await program.xreadgroup("g", "c", {STREAM: ">"})
            assert await program.xack(STREAM, "g", entry) == 1
            for command in (
                ("GET", "ordersync:{default}:token"),
                ("SHUTDOWN",),
                ("CONFIG", "GET", "dir"),
                ("XADD", STREAM, "*", "a", "1"),
                ("FLUSHALL",),
                ("ACL", "LIST"),
                ("KEYS", "*"),
                ("EVAL", "while true do end", "0"),
                ("SCRIPT", "LOAD", "return 1"),
                ("FUNCTION", "LOAD", "#!lua name=a"),
            ):
                with pytest.raises(NoPermissionError):
                    await program.execute_command(*command)  # type: ignore[no-untyped-call]


def test_they_have_the_rights_of_a_consumer(tmp_path: Path) -> None:
    """Those of deploy/redis/users.acl, word for word, under any prefix."""
    make_secrets(tmp_path)
    lines = (tmp_path / "redis" / "users.acl").read_text().splitlines()
    (consumer,) = [line.split() for line in lines if line.startswith("user consumer ")]
    # "user consumer on HASH resetchannels -@all", then the rights.
    assert launch._ABROAD.split() == [word.replace("ordersync:", "*") for word in consumer[6:]]


async def test_no_other_user_sees_a_password(tmp_path: Path) -> None:
    """Neither in the arguments of the process nor in its environment, nor in the log."""
    async with embedded.server(tmp_path, EmbeddedSettings(port=free_port())) as running:
        own = own_password(running.url)
        process = psutil.Process(running.pid)
        shown = " ".join([*process.cmdline(), *process.environ().values()])
        shown += (tmp_path / "valkey" / "valkey.log").read_text()
        assert own not in shown
        assert password(tmp_path) not in shown
        assert own != password(tmp_path)


async def test_each_start_has_a_password_of_its_own(tmp_path: Path) -> None:
    """Whoever took the port in between has been sent the old one. The worker's own stays, which goes to nobody else."""
    settings = EmbeddedSettings(port=free_port())
    async with embedded.server(tmp_path, settings) as running:
        old = password(tmp_path)
        os.kill(running.pid, signal.SIGKILL)

        async def is_back() -> bool:
            found = embedded.find(tmp_path)
            return found is not None and found.pid != running.pid and password(tmp_path) != old

        await eventually(is_back)
        async with connect(running.url) as own:
            assert await own.ping()
        async with Redis(port=settings.port or 0, password=old) as program:
            with pytest.raises((AuthenticationError, ResponseError)):
                await program.ping()
    assert not record.password_file(tmp_path).exists()


async def test_the_port_is_taken(tmp_path: Path, own_server: Server) -> None:
    """The worker does not start, and says why; nothing is left behind."""
    with pytest.raises(
        RedisUnavailable, match=rf"ORDERSYNC_EMBEDDED__PORT: another process .* {own_server.port} "
    ):
        async with embedded.server(tmp_path, EmbeddedSettings(port=own_server.port)):
            pass
    assert embedded.find(tmp_path) is None
    assert not record.password_file(tmp_path).exists()


async def test_status_names_the_file(tmp_path: Path) -> None:
    """And shows no password, as no other command does."""
    port = free_port()
    async with embedded.server(tmp_path, EmbeddedSettings(port=port)) as running:
        done = ordersync("status", cwd=tmp_path, data_dir=str(tmp_path))
        line = f"embedded Valkey: redis://127.0.0.1:{port}/0, password in {record.password_file(tmp_path)}"
        assert line in done.stdout.splitlines()
        assert password(tmp_path) not in done.stdout + done.stderr
        assert own_password(running.url) not in done.stdout + done.stderr
    async with embedded.server(tmp_path):
        assert "embedded" not in ordersync("status", cwd=tmp_path, data_dir=str(tmp_path)).stdout
