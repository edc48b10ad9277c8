"""Accounts that come and go while the daemon runs: those in Redis, and those of the accounts file."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ordersync
from tests.support.programs import Program, login_settings
from tests.support.waiting import eventually
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, FaultRule, SandboxServer

pytestmark = pytest.mark.anyio

KEY = "4f1d9c2e8b7a6053f1e2d3c4b5a69788"
ROWS = "ordersync:accounts:config"


@pytest.fixture
def settings(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """Settings without a login, and with a secret key."""
    made = login_settings(sandbox, redis_url, tmp_path / "data", secret_key=KEY)
    del made["api__client_id"], made["api__client_secret"]
    (tmp_path / "secret").write_text(CLIENT_SECRET + "\n")
    (tmp_path / "secret").chmod(0o600)
    return made


def orders(client: Any, account: str) -> int:
    return int(client.xlen(f"ordersync:{{{account}}}:stream:orders"))


def has(client: Any, account: str, number: int) -> bool:
    return orders(client, account) == number


async def test_accounts_in_redis_come_and_go(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """Added, disabled, enabled and removed, without a restart; a bad row loses only its account."""

    def accounts(*words: str, code: int = 0) -> str:
        done = ordersync("accounts", *words, cwd=tmp_path, **settings)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def add(name: str, *more: str, code: int = 0) -> str:
        login = ("--client-id", CLIENT_ID, "--client-secret-file", str(tmp_path / "secret"))
        return accounts("add", name, *login, *more, code=code)

    assert "ordersync accounts add" in ordersync("run", "--once", cwd=tmp_path, **settings).stderr
    assert "one was added" in add("one")
    assert CLIENT_SECRET.encode() not in client.hget(ROWS, "one")
    with Program(tmp_path, **settings) as program:
        await eventually(partial(has, client, "one", 50))
        add("two", "--set", "api.page_size=20")
        await eventually(partial(has, client, "two", 50))
        client.hset(ROWS, "bad", "{}")
        client.hset(ROWS, "moved", client.hget(ROWS, "one"))
        accounts("disable", "two", "--reason", "contract ended")
        await program.logged("account_not_served", 2)
        assert {line["account"] for line in program.logs("account_not_served")} == {"bad", "moved"}
        changed = await program.logged("accounts_changed", 3)
        assert (changed["removed"], changed["served"]) == (["two"], 1)
        sandbox.store.change(1, status="Fulfilled")
        await eventually(partial(has, client, "one", 51))
        assert orders(client, "two") == 50
        rows = {row["account"]: row for row in json.loads(accounts("list", "--json"))}
        assert {name: row["state"] for name, row in rows.items()} == {
            "one": "served",
            "two": "disabled",
            "bad": "invalid",
            "moved": "invalid",
        }
        keyless = {name: value for name, value in settings.items() if name != "secret_key"}
        seen = json.loads(ordersync("accounts", "list", "--json", cwd=tmp_path, **keyless).stdout)
        assert {row["account"]: row["state"] for row in seen}["one"] == "unknown"
        assert "another ORDERSYNC_SECRET_KEY, or the row was changed" in rows["moved"]["problem"]
        assert "contract ended" in accounts("list")
        status = ordersync("status", cwd=tmp_path, **settings).stdout
        assert "two is not polled: disabled by" in status
        assert "bad is not served: the row cannot be read" in status
        assert "No worker is alive" not in status
        accounts("enable", "two")
        await eventually(partial(has, client, "two", 51))
        removed = accounts("remove", "one", "--yes")
        assert "ordersync:{one}:" in removed
        assert (await program.logged("accounts_changed", 5))["removed"] == ["one"]
        assert orders(client, "one") == 51
        assert "one is not polled: removed by" in ordersync("status", cwd=tmp_path, **settings).stdout
        assert not client.zrange("ordersync:{one}:workers", 0, -1)
        program.process.terminate()
        assert await program.ended() == 0
        assert not program.logs("worker_failed")
    history = ordersync("history", "--account", "two", "--json", cwd=tmp_path, **settings)
    assert [entry["command"].split()[1] for entry in json.loads(history.stdout)] == [
        "enable",
        "disable",
        "add",
    ]


async def test_what_cannot_be_stored_is_refused(
    settings: dict[str, str], redis_url: str, client: Any, tmp_path: Path
) -> None:
    """Each error says what is wrong and what to do, and nothing is stored."""
    login = ("--client-id", CLIENT_ID, "--client-secret-file", str(tmp_path / "secret"))
    wrong = [
        (("add", "acme"), "The login is missing"),
        (("add", "acme", "--client-id", "x"), "--client-secret-file"),
        (
            ("add", "acme", "--client-id", "x", "--client-secret-file", "none"),
            "--client-secret-file: none cannot be read: No such file or directory\n",
        ),
        (("add", "acme", *login, "--set", "api.client_secret=x"), "a secret in a command can be seen"),
        (
            ("add", "acme", *login, "--set", "api.page_sise=5"),
            "page_sise is not a setting. Did you mean page_size?",
        ),
        (("add", "acme", *login, "--set", "api.page_size=many"), "page_size"),
        (("add", "acme", *login, "--set", "api.ca_file=ca.pem"), "ORDERSYNC_API__CA_FILE"),
        (("add", "acme", *login, "--base-url", "http://shop.example.com"), "is not encrypted"),
        (("add", "sandbox", *login), "deletes its data"),
        (("remove", "acme", "--yes"), "There is no account 'acme' in Redis"),
        (("disable", "acme", "--reason", "x"), "There is no account 'acme' in Redis"),
    ]
    for words, expected in wrong:
        done = ordersync("accounts", *words, cwd=tmp_path, **settings)
        assert (done.returncode, expected in done.stderr) == (2, True), done.stderr
    del settings["secret_key"]
    done = ordersync("accounts", "add", "acme", *login, cwd=tmp_path, **settings)
    assert done.returncode == 2
    assert "Secrets are never stored in plain words" in done.stderr
    own = settings | {"api__client_id": CLIENT_ID, "api__client_secret": CLIENT_SECRET, "secret_key": KEY}
    done = ordersync("accounts", "add", "default", *login, cwd=tmp_path, **own)
    assert "comes from the settings" in done.stderr
    assert not client.exists(ROWS)
    client.set(ROWS, "mine")
    doctor = ordersync("doctor", cwd=tmp_path, **own)
    assert f"{ROWS}" in doctor.stdout


@pytest.mark.slow
async def test_a_changed_file_is_taken_up(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """Without a signal, some seconds after the last change; a file that cannot be used changes nothing."""
    file = tmp_path / "accounts.toml"

    def write(*names: str, more: str = "") -> None:
        text = "".join(
            f"[accounts.{name}.api]\nclient_id = '{CLIENT_ID}'\nclient_secret = '{CLIENT_SECRET}'\n"
            for name in names
        )
        file.write_text(text + more)
        file.chmod(0o600)

    write("one", "two")
    with Program(tmp_path, **settings, accounts_file=str(file)) as program:
        await eventually(lambda: has(client, "one", 50) and has(client, "two", 50))
        write("one", more="[accounts.thr")
        assert "not valid TOML" in (await program.logged("accounts_not_read"))["error"]
        write("one", "three")
        line = await program.logged("accounts_changed")
        assert (line["added"], line["removed"], line["served"]) == (["three"], ["two"], 2)
        await eventually(partial(has, client, "three", 50))
        assert not program.logs("worker_failed")
        program.process.terminate()
        assert await program.ended() == 0
    history = ordersync("history", "--account", "three", "--json", cwd=tmp_path, **settings)
    assert [entry["command"] for entry in json.loads(history.stdout)] == ["accounts added three"]


@pytest.mark.parametrize("words", [(), ("--once",)])
async def test_logins_of_the_start_do_not_wait_for_each_other(
    sandbox: SandboxServer, settings: dict[str, str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    """The gateway answers none of them, and gets all."""
    sandbox.faults.replace((FaultRule("hang", operation="clients.token"),))
    file, names = tmp_path / "accounts.toml", ("one", "two", "three")
    file.write_text(
        "".join(
            f"[accounts.{name}.api]\nclient_id = '{CLIENT_ID}'\nclient_secret = '{CLIENT_SECRET}'\ntimeout = 600\n"
            for name in names
        )
    )
    file.chmod(0o600)
    command = (sys.executable, "-m", "worker.cli", "run", *words)
    with Program(tmp_path, *command, **settings, accounts_file=str(file)) as program:
        await eventually(lambda: sandbox.faults.fired() == [len(names)])
        program.process.terminate()
        await program.ended()
