"""The receiver in Java and the script for Kafka of deploy/examples."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest

from ordersync_consumer.envelope import parse
from tests.support.consuming import Stage
from tests.support.paths import ROOT
from tests.support.programs import Program, ordersync_process, program_env, run_beside
from tests.support.servers import free_port
from tests.support.streams import KEYS
from tests.support.tools import program
from tests.support.waiting import eventually
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio

EXAMPLES = ROOT / "deploy" / "examples"
SECRET, OLD_SECRET, OTHER = ("whsec_" + four * 8 for four in ("bmV3", "b2xk", "YmFk"))


@pytest.mark.long
async def test_java(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle, and sent events twice: each effect happens once. A wrong signature has none."""
    java, port = program("java"), free_port()
    monkeypatch.setenv("ORDERSYNC_FORWARD__SECRET", OLD_SECRET)
    effects, address = tmp_path / "effects", f"http://127.0.0.1:{port}/events"
    receiver = (java, str(EXAMPLES / "Receiver.java"), str(port), str(effects))

    def environment(secret: str) -> dict[str, str]:
        return {"redis__url": redis_url, "forward__secret": secret}

    client = connect(redis_url)
    stage = Stage(client)
    await stage.add(*"abcdef" * 20)

    async def forward(secret: str, group: str) -> int:
        words = ("forward", "--group", group, "--once", "--to", address)
        done = await asyncio.to_thread(ordersync_process, *words, cwd=tmp_path, **environment(secret))
        return done.returncode

    with Program(tmp_path, *receiver, forward__secret=OLD_SECRET) as running:
        await eventually(lambda: "listening" in running.out)
        assert (await asyncio.to_thread(httpx.post, address, content=b"{}")).status_code in {401, 500}
        assert await forward(OTHER, "stranger") == 1
        assert effects.read_bytes() == b""
        command = (
            sys.executable,
            "-m",
            "worker.cli",
            "forward",
            "--group",
            "g",
            "--name",
            "c",
            "--to",
            address,
        )
        with Program(tmp_path, *command, **environment(f"{SECRET} {OLD_SECRET}")) as sender:
            await eventually(lambda: effects.read_bytes().count(b"\n") > 10)
            running.process.kill()
            sender.process.kill()
    with Program(tmp_path, *receiver, forward__secret=SECRET) as running:
        await eventually(lambda: "listening" in running.out)
        # All of them once more for another group, and what was left for the first one.
        assert await forward(SECRET, "again") == 0
        words = ("forward", "--group", "g", "--name", "c", "--once", "--to", address)
        done = await asyncio.to_thread(ordersync_process, *words, cwd=tmp_path, **environment(SECRET))
        assert done.returncode == 0, done.stderr
    ids = [line.split(" ")[0] for line in effects.read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 120
    await client.aclose()


async def test_kafka(redis_url: str, tmp_path: Path) -> None:
    """The script writes each event byte for byte, with the id of the record as key, to brokers that confirm it."""
    program("kcat")
    client = connect(redis_url)
    stage = Stage(client)
    data = b'{"id": "a",\t"subject": "no", "total": 10000000000000000000000.10}'
    await stage.add("a", "b", "a", data=data)
    words = ("consume", "--group", "kafka", "--once", "orders", "--", str(EXAMPLES / "kafka.sh"))
    mock = ("localhost:1", "orders", "-X", "test.mock.num.brokers=1", "-T")
    done = await asyncio.to_thread(ordersync_process, *words, *mock, cwd=tmp_path, redis__url=redis_url)
    assert done.returncode == 0, done.stderr
    entries = await client.xrange(KEYS.stream("orders"))
    lines = [parse(*entry).json_line(attempt=1, replayed=False).decode() for entry in entries]
    assert all(data.decode() in line for line in lines)
    # kcat shows what it has sent without the ends of lines.
    assert done.stdout == "".join(f"{key}\t{line}" for key, line in zip("aba", lines, strict=True))
    assert await stage.pending("kafka") == {}
    # Without a broker the script fails, so that the events are kept.
    script = (str(EXAMPLES / "kafka.sh"), "127.0.0.1:1", "orders", "-X", "message.timeout.ms=500")
    piped = ("sh", "-c", 'echo x | exec "$0" "$@"')
    failed = await run_beside(*piped, *script, cwd=tmp_path, env=program_env())
    assert failed.returncode != 0
    await client.aclose()
