"""Lua as functions of the server, for users who may not send scripts, and as scripts for the others."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from ordersync_consumer import FunctionMissing, load_functions
from ordersync_consumer.functions import FUNCTIONS, function
from ordersync_consumer.scripts import library_of
from tests.support.streams import KEYS, STREAM, fields_of
from worker.redis import functions as all_functions

pytestmark = pytest.mark.anyio


@pytest.fixture
async def root(redis_url: str) -> AsyncIterator[Any]:
    """A client who may do everything, on a server without functions."""
    client: Any = Redis.from_url(redis_url)
    await client.function_flush()
    yield client
    await client.acl_deluser("small")
    await client.function_flush()
    await client.aclose()


@pytest.fixture
async def small(root: Any, redis_url: str) -> AsyncIterator[Any]:
    """A client who may call functions, and not send scripts."""
    await root.execute_command(
        "ACL", "SETUSER", "small", "on", "nopass", "~*", "+@all", "-@scripting", "+fcall", "-xdel"
    )
    client: Any = Redis.from_url(redis_url, username="small", password="-")
    yield client
    await client.aclose()


async def survey(client: Any) -> Any:
    return await function(client, "survey")(keys=[STREAM], args=[0, 0, 0])


async def test_who_may_not_send_scripts_needs_the_functions(root: Any, small: Any) -> None:
    """Without them the error names the function and what to do; with them the call succeeds."""
    await root.xadd(STREAM, fields_of(1))
    with pytest.raises(FunctionMissing, match="ordersync_survey_") as caught:
        await survey(small)
    assert "Start a worker of the same version" in str(caught.value)
    assert len(await load_functions(root)) == len(FUNCTIONS)
    assert await load_functions(root) == []
    assert (await survey(small))[0] == 1
    await root.function_flush()
    with pytest.raises(FunctionMissing):
        await survey(small)


async def test_who_may_send_scripts_needs_none(root: Any) -> None:
    """The text is sent as a script, which is then called by its hash; the answers are the same."""
    await root.xadd(STREAM, fields_of(1))
    called = function(root, "survey")
    answers = [await called(keys=[STREAM], args=[0, 0, 0]) for _ in range(2)]
    await load_functions(root)
    answers.append(await survey(root))
    assert answers[0][:2] == answers[1][:2] == answers[2][:2]
    await root.script_flush()
    assert (await called(keys=[STREAM], args=[0, 0, 0]))[0] == 1


async def test_rights_hold_within_a_function(root: Any, small: Any) -> None:
    """A command that the user may not use is refused in a function too, in words of its own."""
    await load_functions(root)
    await root.xadd(STREAM, fields_of(1))
    await root.xgroup_create(STREAM, "warehouse", "0")
    entries = await root.xreadgroup("warehouse", "one", {STREAM: ">"})
    entry = entries[0][1][0][0]
    await root.xack(STREAM, "warehouse", entry)
    letter = await root.xadd(KEYS.dead("orders"), {"a": "b"})
    with pytest.raises(ResponseError, match=r"(?i)permission") as caught:
        await function(small, "reopen")(
            keys=[STREAM, KEYS.dead("orders"), KEYS.replayed("orders", "warehouse")],
            args=["warehouse", letter, entry, "nobody", 0],
        )
    assert not isinstance(caught.value, FunctionMissing)


async def test_who_may_not_call_functions_sends_scripts(root: Any, redis_url: str) -> None:
    """The rights of an earlier version of users.acl: scripts, and no functions."""
    await load_functions(root)
    await root.execute_command(
        "ACL", "SETUSER", "small", "on", "nopass", "~*", "+@all", "-fcall", "-function"
    )
    client: Any = Redis.from_url(redis_url, username="small", password="-")
    await root.xadd(STREAM, fields_of(1))
    assert (await survey(client))[0] == 1
    with pytest.raises(NoPermissionError):
        await load_functions(client)
    await client.aclose()


async def test_who_may_do_neither_is_refused(root: Any, redis_url: str) -> None:
    """The functions are there and not for this user: the error is that of the server, about rights."""
    await load_functions(root)
    await root.execute_command("ACL", "SETUSER", "small", "on", "nopass", "~*", "+@all", "-@scripting")
    client: Any = Redis.from_url(redis_url, username="small", password="-")
    with pytest.raises(NoPermissionError, match="evalsha"):
        await survey(client)
    await client.aclose()


async def test_every_function_is_one_that_the_server_takes(root: Any) -> None:
    """All of the kit and of the commands, each under a name with a hash of its text."""
    loaded = await all_functions.load_functions(root)
    assert len(loaded) == len(FUNCTIONS) + len(all_functions.FUNCTIONS)
    assert all(re.fullmatch(r"ordersync_[a-z]+_[0-9a-f]{8}", name) for name in loaded)


def test_another_text_has_another_name() -> None:
    """Programs of two versions use one server."""
    names = {library_of("take", text)[0] for text in ("return 1", "return 2")}
    assert len(names) == 2
