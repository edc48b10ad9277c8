"""SIGHUP: settings, accounts and contract are read anew, in order; what cannot be used is refused with the reason."""

from __future__ import annotations

import os
import re
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.support.programs import Program
from tests.support.servers import Server, free_port
from tests.support.waiting import PATIENCE, eventually
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, FaultRule, SandboxServer

pytestmark = pytest.mark.anyio

ACCOUNT = """
[accounts.{name}.api]
client_id = "{client_id}"
client_secret = "{secret}"
page_size = {page_size}
"""


def count(client: Any, resource: str = "orders", account: str = "default") -> int:
    return int(client.xlen(f"ordersync:{{{account}}}:stream:{resource}"))


def has_more(client: Any, least: int) -> bool:
    return count(client) > least


def write_env(folder: Path, **values: str) -> None:
    """Write `.env`."""
    lines = [f"ORDERSYNC_{name.upper()}='{value}'" for name, value in values.items()]
    (folder / ".env").write_text("\n".join(lines), encoding="utf-8")


async def reload(program: Program, event: str = "configuration_reloaded") -> dict[str, Any]:
    """Send SIGHUP, and wait for what the daemon says of it."""
    before = len(program.logs(event))
    program.process.send_signal(signal.SIGHUP)
    return await program.logged(event, before + 1)


async def test_settings(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """Another resource is polled by the same process; the names of what changed are told, and what needs a restart."""
    del settings["poll__intervals"]
    write_env(tmp_path, poll__intervals='{"orders": 1}')
    with Program(tmp_path, **settings) as program:
        await eventually(lambda: count(client) == 50)
        write_env(
            tmp_path, poll__intervals='{"orders": 1, "notes": 1}', grace_seconds="9", traces__share="0.5"
        )
        line = await reload(program)
        assert line["changed"] == ["ORDERSYNC_POLL__INTERVALS", "ORDERSYNC_GRACE_SECONDS"]
        assert line["advice"] == "Restart the worker for ORDERSYNC_TRACES__SHARE."
        await eventually(lambda: count(client, "notes"))
        sandbox.store.change(1, status="Fulfilled")
        await eventually(lambda: count(client) == 51)
        line = await reload(program)
        assert (line["changed"], line["added"], line["removed"]) == ([], [], [])
        program.process.terminate()
        assert await program.ended() == 0
        assert program.logs("stopping")[0]["grace_s"] == 9
        assert not program.logs("jobs_cut_short")
    assert count(client) == 51


async def test_what_is_under_way_is_finished(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """Reloads in the middle of a full scan of slow pages: each order is published once, and no job is cut short."""
    sandbox.faults.replace((FaultRule("delay", operation="orders.search", seconds=0.5),))
    settings |= {"api__page_size": "5", "api__max_concurrency": "1"}
    with Program(tmp_path, **settings) as program:
        for number in range(3):
            await eventually(partial(has_more, client, number * 10))
            await program.logged("worker_started", number + 1)
            write_env(tmp_path, poll__complete_every=str(1000 + number))
            assert (await reload(program))["changed"] == ["ORDERSYNC_POLL__COMPLETE_EVERY"]
        await eventually(lambda: count(client) == 50)
        await program.logged("worker_started", 4)
        program.process.terminate()
        assert await program.ended() == 0
        assert not program.logs("jobs_cut_short")
        assert program.logs("poll_done")[0]["outcome"] == "stopped"
    subjects = [fields[b"subject"] for _, fields in client.xrange("ordersync:{default}:stream:orders")]
    assert len(subjects) == len(set(subjects)) == 50


async def test_accounts(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """One is added, one changed, one removed; the page of the daemon goes on and names each with its account."""
    file, port = tmp_path / "accounts.toml", free_port()

    def page() -> str:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE, trust_env=False).text

    def write(**accounts: int) -> None:
        texts = [
            ACCOUNT.format(name=name, client_id=CLIENT_ID, secret=CLIENT_SECRET, page_size=page_size)
            for name, page_size in accounts.items()
        ]
        file.write_text("\n".join(texts), encoding="utf-8")

    write(acme=10, globex=10)
    with Program(tmp_path, **settings, accounts_file=str(file), metrics__port=str(port)) as program:
        await eventually(lambda: count(client, account="acme") == count(client, account="globex") == 50)
        await eventually(lambda: {"acme/orders", "globex/orders"} <= set(re.findall(r"\w+/orders", page())))
        write(acme=20, initech=10)
        line = await reload(program)
        assert (line["added"], line["removed"]) == (["initech"], ["globex"])
        assert line["changed"] == ["accounts.acme.api.page_size"]
        await eventually(lambda: count(client, account="initech") == 50)
        await eventually(lambda: "initech/orders" in page())
        assert "No worker is alive for globex: nothing is read." in page()
        sandbox.store.change(1, status="Fulfilled")
        await eventually(lambda: count(client, account="acme") == count(client, account="initech") == 51)
        program.process.terminate()
        assert await program.ended() == 0
    assert count(client, account="globex") == 50
    assert not client.zrange("ordersync:{globex}:workers", 0, -1)


async def test_what_cannot_be_used_is_refused(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """A wrong value, a missing file, a secret that OrderMesh refuses: the old configuration stays in force."""
    del settings["api__client_secret"]
    right = {"api__client_secret": CLIENT_SECRET, "api__base_url": settings.pop("api__base_url")}
    wrong = [
        ({"api__page_size": "many"}, "ORDERSYNC_API__PAGE_SIZE"),
        ({"pole__intervals": "{}"}, "ORDERSYNC_POLE__INTERVALS is not a setting"),
        ({"contract_file": "nowhere.toml"}, "nowhere.toml"),
        ({"api__client_secret": "another-secret"}, "Account default: OrderMesh refused the login"),
        (
            {"api__base_url": right["api__base_url"].replace("127.0.0.1", "localhost")},
            "If the same OrderMesh has moved",
        ),
        ({"redis__url": "redis://127.0.0.1:1/0?decode_responses=true"}, "decode_responses"),
    ]
    settings.pop("redis__url")
    right["redis__url"] = f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0"
    write_env(tmp_path, **right)
    with Program(tmp_path, **settings) as program:
        await eventually(lambda: count(client) == 50)
        for values, expected in wrong:
            write_env(tmp_path, **{**right, **values})
            line = await reload(program, "configuration_refused")
            assert expected in line["error"]
            assert "exception" not in line
        log = [fields for _, fields in client.xrange("ordersync:{default}:operator_log")]
        assert [fields[b"command"] for fields in log] == [b"SIGHUP"] * len(wrong)
        for (_, expected), fields in zip(wrong, log, strict=True):
            assert fields[b"outcome"].startswith(b"refused: ")
            assert expected in fields[b"outcome"].decode()
        sandbox.store.change(1, status="Fulfilled")
        await eventually(lambda: count(client) == 51)
        assert len(program.logs("worker_started")) == 1
        write_env(tmp_path, **right, api__page_size="20")
        assert (await reload(program))["changed"] == ["ORDERSYNC_API__PAGE_SIZE"]
        assert "another-secret" not in program.err
        told = await program.logged("changed_by_operator", len(wrong) + 1)
        assert (told["command"], told["outcome"]) == ("SIGHUP ORDERSYNC_API__PAGE_SIZE", "done")
        program.process.terminate()
        assert await program.ended() == 0


async def test_the_content_of_a_contract_file(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """The name of the file is the same; what it says is not."""
    file = tmp_path / "contract.toml"
    file.write_text('login_case = "camel"\n', encoding="utf-8")
    with Program(tmp_path, **settings, contract_file=str(file)) as program:
        await eventually(lambda: count(client) == 50)
        file.write_text('login_case = "snake"\n', encoding="utf-8")
        line = await reload(program)
        assert line["changed"] == ["ORDERSYNC_CONTRACT_FILE"]


async def test_another_redis_and_a_new_password(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, own_server: Server, tmp_path: Path
) -> None:
    """SIGHUP leads to another server. A password that the server changes is read anew without a signal."""
    first = settings.pop("redis__url")
    write_env(tmp_path, redis__url=first)
    with redis.Redis.from_url(own_server.url) as other, Program(tmp_path, **settings) as program:
        await eventually(lambda: count(client) == 50)
        write_env(tmp_path, redis__url=own_server.url)
        assert (await reload(program))["changed"] == ["ORDERSYNC_REDIS__URL"]
        await eventually(lambda: count(other) == 50)
        write_env(tmp_path, redis__url=own_server.url.replace("//", "//:new-password@"))
        other.config_set("requirepass", "new-password")
        other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await program.logged("configuration_reloaded", 2)
        sandbox.store.change(1, status="Fulfilled")
        await eventually(lambda: count(other) == 51)
        assert "new-password" not in program.err
        program.process.terminate()
        assert await program.ended() == 0


async def test_the_end_of_the_terminal_ends_the_daemon(
    settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """That sends SIGHUP too. A daemon that went on would be one that nobody knows of."""
    script = "import pty, sys; pty.spawn([sys.executable, '-m', 'worker.cli', 'run'])"
    beats = tmp_path / "data" / "heartbeat"
    with Program(tmp_path, sys.executable, "-c", script, **settings) as terminal:
        await eventually(lambda: count(client) == 50 and list(beats.glob("*.json")))
        (daemon,) = terminal.children()
        os.kill(daemon.pid, signal.SIGHUP)  # as by a person: the terminal is still there
        await eventually(
            lambda: '"configuration_reloaded"' in terminal.out or "configuration_reloaded" in terminal.out
        )
        assert daemon.is_running()
        terminal.process.kill()
        await eventually(lambda: not list(beats.glob("*.json")))
        await eventually(lambda: not daemon.is_running() or daemon.status() == "zombie")
