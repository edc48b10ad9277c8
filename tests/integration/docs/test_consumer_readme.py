"""The example of the page on the consumer kit runs as it is written."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.support.consuming import Stage
from tests.support.documentation import block
from tests.support.programs import Program
from tests.support.streams import KEYS
from tests.support.waiting import eventually
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio


async def test_the_example_of_the_page(redis_url: str, tmp_path: Path) -> None:
    """It prints every event, in order for each entity, acknowledges all, and ends in order on SIGTERM."""
    code = block("docs/consume/python.md", "python")
    assert code.count("Redis()") == 1
    code = code.replace("Redis()", f"Redis.from_url({redis_url!r})")
    client = connect(redis_url)
    stage = Stage(client)
    subjects = ["a", "b", "a", "c", "a", "b"]
    last = (await stage.add(*subjects))[-1].encode()

    async def dealt_with() -> bool:
        (group,) = await client.xinfo_groups(KEYS.stream("orders")) or [{"last-delivered-id": b""}]
        return bool(group["last-delivered-id"] == last and group["pending"] == 0)

    with Program(tmp_path, sys.executable, "-W", "error", "-c", code) as program:
        await eventually(dealt_with)
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0
    lines = program.out.splitlines()
    assert sorted(lines) == sorted(
        f"io.ordermesh.order.created {subject} {subjects[: number + 1].count(subject)}"
        for number, subject in enumerate(subjects)
    )
    assert [line for line in lines if " a " in line] == [
        f"io.ordermesh.order.created a {n}" for n in (1, 2, 3)
    ]
    await client.aclose()
