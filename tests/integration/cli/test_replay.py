"""`ordersync replay`: past events again, to one group."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ordersync
from tests.support.consuming import Stage, ids
from tests.support.streams import STREAM, Writer
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio

START = 1_772_445_600_000
"""2026-03-02T10:00:00Z, in ms: when the first event was published; the others a minute apart."""
HINT = (
    "were removed by retention and cannot be redelivered. To publish records as they are now, run: ordersync resync "
    "orders --force, with --id, --since or --all"
)


@dataclass(slots=True)
class Past:
    """Ten events that groups g and h have dealt with, and the command."""

    stage: Stage
    url: str
    folder: Path
    entries: list[str]

    def replay(self, *words: str, group: str = "g") -> subprocess.CompletedProcess[str]:
        """`ordersync replay` for a group."""
        return ordersync("replay", "--group", group, *words, cwd=self.folder, redis__url=self.url)

    def told(self, *words: str) -> dict[str, Any]:
        """What it says as JSON, of one resource."""
        done = self.replay("--json", *words)
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        return dict(row)

    async def again(self, group: str = "g") -> list[str]:
        """What comes to the group now."""
        taken = await self.stage.take(self.stage.consumer(group=group))
        assert all(delivery.replayed for delivery in taken)
        return ids(taken)


@pytest.fixture
async def past(redis_url: str, tmp_path: Path) -> AsyncIterator[Past]:
    client = connect(redis_url)
    stage = Stage(client)
    entries = await Writer(client).add(10, at=START, apart=60_000)
    for group in ("g", "h"):
        await stage.take(stage.consumer(group=group))
    yield Past(stage, redis_url, tmp_path, entries)
    await client.aclose()


async def test_everything(past: Past) -> None:
    """All that is kept comes to the group again, in order, and to no other one."""
    done = past.replay()
    assert done.returncode == 0
    assert done.stdout == (
        "orders: 10 events redelivered to group g, among those published from 2026-03-02T10:00:00.000Z "
        "to 2026-03-02T10:09:00.000Z\n"
    )
    told = json.loads(done.stderr)
    assert (told["event"], told["resource"], told["group"], told["events"]) == (
        "events_replayed",
        "orders",
        "g",
        10,
    )
    assert await past.again("h") == []
    assert await past.again() == past.entries


async def test_a_dry_run(past: Past) -> None:
    """It says the same, and nothing comes again."""
    done = past.replay("--dry-run")
    assert done.stdout.startswith("orders: 10 events would be redelivered to group g")
    assert done.stderr == ""
    assert past.told("--dry-run")["dry_run"] is True
    assert await past.again() == []


@pytest.mark.parametrize(
    ("words", "first", "behind"),
    [
        (("--since", "2026-03-02T10:07:00Z"), 7, 10),
        (("--since", "2026-03-02 11:07:30+01:00", "--until", "2026-03-02T10:09:00"), 8, 9),
        (("--until", "2026-03-02T10:02:00Z"), 0, 2),
        (("orders", "--from", f"{START + 180_000}-0"), 3, 10),
        (("--entity", f"{6:024x}"), 5, 6),
        (("--entity", f"{6:024x}", "--since", "2026-03-02T10:07:00Z"), 0, 0),
    ],
)
async def test_some(past: Past, words: tuple[str, ...], first: int, behind: int) -> None:
    """Those of a time, from an entry on, or of one entity."""
    assert past.told(*words)["replayed"] == behind - first
    assert await past.again() == past.entries[first:behind]


async def test_what_is_pending_is_left_alone(past: Past) -> None:
    """It is counted apart, and what was not read yet is not counted at all."""
    writer = Writer(past.stage.redis, ids=past.entries.copy())
    taken, _ = await writer.add(2, at=START + 600_000, apart=60_000)
    assert await past.stage.read("c9", 1) == [taken]
    told = past.told()
    assert (told["replayed"], told["pending"], told["last"]) == (10, 1, taken)
    done = past.replay()
    assert "orders: 0 events redelivered to group g" in done.stdout
    assert "; 11 left alone: already pending, so the group gets them anyway" in done.stdout
    assert done.stderr == ""


async def test_what_is_not_kept(past: Past) -> None:
    """Where the wanted events begin before the oldest that is kept, that is said, with what to do."""
    await past.stage.redis.xtrim(STREAM, minid=past.entries[4], approximate=False)
    old = f"Events older than 2026-03-02T10:04:00.000Z (entry {past.entries[4]}) {HINT}"
    assert old in past.replay("--since", "2026-03-02T10:03:00Z").stdout
    assert old in past.replay().stdout
    assert HINT not in past.replay("--since", "2026-03-02T10:05:00Z").stdout
    told = past.told("orders", "--from", past.entries[2])
    assert (told["older_gone"], told["oldest_kept"]) == (True, past.entries[4])
    assert await past.again() == past.entries[4:]
    await past.stage.redis.xtrim(STREAM, maxlen=0, approximate=False)
    assert f"Events published so far {HINT}" in past.replay().stdout


async def test_resources(past: Past) -> None:
    """Without one that is named it is all that the group reads."""
    await past.stage.add("a", resource="shipments")
    await past.stage.take(past.stage.consumer(group="g", resources=["shipments"]))
    rows = json.loads(past.replay("--json").stdout)
    assert [(row["resource"], row["replayed"]) for row in rows] == [("orders", 10), ("shipments", 1)]
    assert past.told("shipments")["pending"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("shipments",), "Unknown group 'g' of shipments"),
        (("--since", "soon"), "--since: 'soon' is neither a time"),
        (("orders", "--from", "soon"), "'soon' is not the id of an entry"),
        (("--from", "1-0"), "--from needs a RESOURCE"),
    ],
)
async def test_wrong_use(past: Past, words: tuple[str, ...], told: str) -> None:
    """Exit 2 and a sentence; nothing comes again."""
    done = past.replay(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert await past.again() == []


async def test_a_group_that_is_none(past: Past) -> None:
    """It is said that there is none, and where to look."""
    done = past.replay(group="nobody")
    assert done.returncode == 2
    assert "Unknown group 'nobody'. To list the groups: ordersync groups." in done.stderr
