"""Scripts of the consumer kit, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from ordersync_consumer.scripts import Function


@pytest.mark.anyio
async def test_a_server_that_restarts_after_the_script_was_loaded() -> None:
    """It has forgotten the script by the time it is called: the script is loaded again."""
    sent: list[str] = []

    async def send(*words: Any) -> Any:
        sent.append(words[0])
        if words[0] == "FCALL":
            raise ResponseError("Function not found")
        if words[0] == "EVALSHA" and sent.count("SCRIPT") < 2:
            raise NoScriptError("No matching script.")
        return b"done"

    function = Function(Redis(), "ordersync_consumer", "release")
    assert await function.call(send, ["key"], []) == b"done"
    assert sent == ["FCALL", "EVALSHA", "SCRIPT", "EVALSHA", "SCRIPT", "EVALSHA"]
