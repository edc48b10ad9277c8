"""Servers and addresses that can never be used: exit 3 with the cause, and the doctor says the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.commands import ordersync
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.waiting import eventually, wait_for
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def cluster_url(tmp_path: Path) -> Iterator[str]:
    """A node of a cluster that has all slots."""
    folder = tmp_path / "node"
    folder.mkdir()
    # The usual port of a node's bus, 10,000 above its own, may be one that the system has given to a client.
    server = Server(folder, None, "--cluster-enabled", "yes")
    server.start()
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_for(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
    yield server.url
    server.stop(kill=True)


async def test_a_user_without_info(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """INFO is nice to have: the daemon works without it, and the doctor notes it."""
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "blind", "on", ">blind-word", "~*", "&*", "+@all", "-info")
        try:
            url = redis_url.replace("redis://", "redis://blind:blind-word@")
            settings = login_settings(sandbox, url, tmp_path / "data")
            with Program(tmp_path, **settings) as program:
                await eventually(lambda: client.xlen("ordersync:{default}:stream:orders") == 50)
                program.process.terminate()
                assert await program.ended() == 0
                assert not program.logs("queue_lost")
            done = ordersync("doctor", cwd=tmp_path, **settings)
        finally:
            client.execute_command("ACL", "DELUSER", "blind")
    assert done.returncode == 0
    assert "note     the Redis user may not call INFO" in done.stdout


async def refusal(folder: Path, settings: dict[str, str]) -> str:
    """The last line of a daemon that ends with 3."""
    with Program(folder, *(sys.executable, "-m", "worker.cli", "run"), **settings) as program:
        assert await program.ended() == 3
        return program.err.splitlines()[-1]


def advice_of(doctor: str) -> str:
    """The advice for the problem, as the doctor prints it."""
    return doctor.partition("problem")[2].partition("-> ")[2].partition("\n")[0]


@pytest.mark.parametrize("setting", ["redis__url", "redis__queue_url"])
async def test_a_node_of_a_cluster(
    sandbox: SandboxServer, redis_url: str, cluster_url: str, tmp_path: Path, setting: str
) -> None:
    """Arq changes keys of several slots at once, which no cluster permits."""
    settings = login_settings(sandbox, redis_url, tmp_path / "data") | {setting: cluster_url}
    said = await refusal(tmp_path, settings)
    assert f"ordersync: {cluster_url}: the server is a node of a cluster" in said
    assert "set ORDERSYNC_REDIS__QUEUE_URL to a server that is not in cluster mode." in said
    doctor = ordersync("doctor", cwd=tmp_path, **settings)
    assert doctor.returncode == 3
    assert "the server is a node of a cluster, which cannot store all keys of the worker" in doctor.stdout
    assert advice_of(doctor.stdout)[1:] in said


async def test_a_user_that_may_not_do_its_work(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path
) -> None:
    """The daemon names the commands before its first poll, as the doctor does."""
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "narrow", "on", ">narrow-word", "~*", "&*", "+@all", "-zadd")
        try:
            url = redis_url.replace("redis://", "redis://narrow:narrow-word@")
            settings = login_settings(sandbox, url, tmp_path / "data")
            said = await refusal(tmp_path, settings)
            doctor = ordersync("doctor", cwd=tmp_path, **settings)
        finally:
            client.execute_command("ACL", "DELUSER", "narrow")
    assert doctor.returncode == 3
    assert "the Redis user lacks permissions: ZADD" in said
    assert "narrow-word" not in said
    assert advice_of(doctor.stdout)[1:] in said


@pytest.mark.parametrize("option", ["decode_responses=true", "protocol=3"])
async def test_an_option_that_changes_answers(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, option: str
) -> None:
    """Exit 3 in one sentence, for the daemon, the doctor and every other command."""
    settings = login_settings(sandbox, f"{redis_url}?{option}", tmp_path / "data")
    text = (
        f"cannot read answers with the option {option.split('=', maxsplit=1)[0]}. Remove it from the address."
    )
    assert text in await refusal(tmp_path, settings)
    for words in ("doctor", "status"):
        done = ordersync(words, cwd=tmp_path, **settings)
        assert done.returncode == 3
        text = f"cannot read answers with the option {option.split('=', maxsplit=1)[0]}. Remove it from the address."
        assert text in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
