"""`ordersync doctor` and Redis: servers that would lose events, users without rights, and servers that are full."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

import worker
from tests.support.commands import ordersync
from tests.support.deployment.deployed import deployed
from tests.support.doctor import doctor, findings_of
from tests.support.programs import login_settings
from tests.support.servers import Server, free_port
from worker.admin.redis_acl import check_rights, commands_of
from worker.keys import KeySpace
from worker.sandbox import SandboxServer


def test_redis_away(sandbox: SandboxServer, tmp_path: Path) -> None:
    """No Redis: exit 3, and it says what was not looked at for that reason."""
    answer, done = doctor(sandbox, f"redis://:secret-word@127.0.0.1:{free_port()}/0", tmp_path)
    assert (done.returncode, answer["ok"]) == (3, False)
    assert findings_of(answer, "redis", "problem")
    assert findings_of(answer, "contract", "note")
    assert "secret-word" not in done.stdout + done.stderr


def test_a_server_that_would_lose_events(sandbox: SandboxServer, tmp_path: Path) -> None:
    """Eviction of unread events is a problem, missing persistence a warning; each is told with what mends it."""
    options = ("--appendonly", "no", "--maxmemory-policy", "allkeys-lru", "--maxmemory", "512mb")
    server = Server(tmp_path, None, *options)
    server.start()
    try:
        answer, done = doctor(sandbox, server.url, tmp_path)
    finally:
        server.stop()
    assert done.returncode == 1
    told = [one for one in answer["findings"] if one["area"] == "redis" and one["advice"]]
    assert [(one["level"], one["advice"]) for one in told] == [
        ("problem", "run CONFIG SET maxmemory-policy noeviction"),
        ("warning", "run CONFIG SET appendonly yes"),
    ]
    assert findings_of(answer, "contract", "ok")  # the rest is looked at all the same


RIGHTS = {
    "no XADD": ("~*", "+@all", "-xadd"),
    "no scripts": ("~*", "+@all", "-eval", "-evalsha"),
    "reads only": ("~*", "+@read", "+@connection", "+info", "+time"),
    "other keys": ("~other:*", "+@all"),
    "no keys of arq": ("~ordersync:*", "+@all"),
}


@pytest.mark.parametrize("rights", RIGHTS)
def test_a_redis_user_that_may_not_write(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, rights: str
) -> None:
    """A server that answers is not enough: what its user is refused is found before the first poll is."""
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "narrow", "on", ">narrow-word", "&*", *RIGHTS[rights])
        try:
            url = redis_url.replace("redis://", "redis://narrow:narrow-word@")
            answer, done = doctor(sandbox, url, tmp_path)
            probe = ordersync(
                "contract", "probe", "orders", cwd=tmp_path, **login_settings(sandbox, url, tmp_path)
            )
        finally:
            client.execute_command("ACL", "DELUSER", "narrow")
        assert (done.returncode, answer["ok"]) == (3, False), done.stderr
        (problem,) = [one for one in answer["findings"] if one["level"] == "problem"]
        assert problem["text"].startswith("the Redis user lacks permissions: ")
        assert "ACL SETUSER" in problem["advice"]
        assert "Traceback" not in done.stderr + probe.stderr
        assert list(client.scan_iter("*doctor*")) == []


@pytest.mark.anyio
@pytest.mark.parametrize("user", ["worker", "consumer"])
async def test_the_users_of_the_deployment(tmp_path: Path, user: str) -> None:
    """The worker's user may do all that the daemon does; a consumer's address in its place is found out."""
    with deployed("valkey", tmp_path) as server:
        found = [
            one async for one in check_rights(server.url(user), ["default"], queue=True, space=KeySpace())
        ]
    assert [one.level.value for one in found] == ["ok" if user == "worker" else "problem"]


def test_every_command_of_the_daemons_scripts_is_tried() -> None:
    """A script that comes to use another command has it tried too, or the doctor would promise too much."""
    ours = Path(worker.__file__).parent
    of_the_queue = {"survey.lua", "trim.lua", "needs.lua", "groups.lua"}  # the others are the consumers'
    scripts = [
        *(ours / "capture" / "lua").glob("*.lua"),
        *(ours / "ordermesh" / "lua").glob("*.lua"),
        *(each for each in (ours / "queue" / "lua").glob("*.lua") if each.name in of_the_queue),
    ]
    used = {name for each in scripts for name in re.findall(r"redis\.p?call\(['\"](\w+)", each.read_text())}
    tried = {str(command[0]).split()[0] for command in commands_of(["default"], queue=True, space=KeySpace())}
    assert len(used) > 15
    assert used - tried - {"TIME", "INFO"} == set()  # those two are asked for before


def test_a_server_that_is_full(sandbox: SandboxServer, tmp_path: Path) -> None:
    """A server that refuses every write cannot be worked with: exit 3, and what to do."""
    server = Server(tmp_path, None, "--maxmemory", "100kb", "--maxmemory-policy", "noeviction")
    server.start()
    try:
        answer, done = doctor(sandbox, server.url, tmp_path)
    finally:
        server.stop()
    assert done.returncode == 3
    assert any("Redis is full and refuses writes" in text for text in findings_of(answer, "redis", "problem"))
