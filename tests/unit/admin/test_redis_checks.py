"""What doctor concludes from the facts of a server of Redis."""

from __future__ import annotations

from typing import Any

import pytest

from worker.admin.finding import Finding, Severity
from worker.admin.redis_checks import judge_redis


def levels(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(one.level.value, one.text) for one in findings if one.level is not Severity.OK]


@pytest.mark.parametrize(
    ("facts", "level", "word"),
    [
        ({"redis_version": "6.0.16"}, "problem", "older than Redis 6.2"),
        ({"redis_version": "7.0.15", "role": "slave"}, "problem", "replica"),
        ({"aof_last_write_status": "err"}, "problem", "append-only file"),
        ({"rdb_last_bgsave_status": "err"}, "problem", "snapshot"),
        ({"maxmemory_policy": "volatile-ttl"}, "warning", "volatile-ttl"),
        (
            {"maxmemory_policy": "allkeys-lfu", "maxmemory": 0},
            "warning",
            "if maxmemory is set, Redis drops keys",
        ),
        ({"maxmemory_policy": "allkeys-lfu", "maxmemory": 1 << 30}, "problem", "unread events"),
        ({"aof_enabled": 0}, "warning", "last snapshot"),
        ({"used_memory": 95 << 30, "maxmemory": 100 << 30}, "warning", "left of its limit"),
        ({"used_memory": 1 << 20, "maxmemory": 30 << 20}, "warning", "left of its limit"),
        ({"used_memory": 95 << 30, "total_system_memory": 100 << 30}, "warning", "without a maxmemory"),
    ],
)
def test_what_info_says(facts: dict[str, Any], level: str, word: str) -> None:
    """Each fact that speaks against a server is found by itself."""
    ((found, text),) = levels(list(judge_redis(facts)))
    assert found == level
    assert word in text


def test_nothing_speaks_against_it() -> None:
    """A good server gives no finding but its memory."""
    facts = {"redis_version": "7.2.4", "aof_enabled": 1, "maxmemory_policy": "noeviction", "used_memory": 1}
    assert levels(list(judge_redis(facts))) == []
