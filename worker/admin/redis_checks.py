"""The checks of `ordersync doctor` on a server of Redis: version, durability, eviction, memory and clock."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import redis.exceptions

from ordersync_consumer.servers.cluster import servers_of
from ordersync_consumer.servers.topology import SlotUnavailable
from worker.admin.clock_checks import judge_offset
from worker.admin.finding import Finding, Severity
from worker.config.urls import hide_password
from worker.redis.connections import connect, version_of
from worker.redis.facts import evicted, eviction_words
from worker.redis.refusals import unusable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from redis.asyncio import Redis

MIN_MEMORY_SHARE, MIN_MEMORY = 0.1, 32 << 20
"""Share of the memory of Redis, and bytes: with less memory left than either, Redis may soon be full."""
_MEGABYTE = 1 << 20


async def check_redis(url: str, role: str) -> AsyncIterator[Finding]:
    """Yield findings about the version, persistence, eviction, free memory and clock of Redis."""
    shown, area = hide_password(url), "redis"
    client = connect(url)
    found, away = [], list[SlotUnavailable]()
    try:
        for server in await servers_of(client):
            try:
                found.append((await _info(server), await server.time()))
            except SlotUnavailable as error:
                away.append(error)
        if not found and away:
            raise away[0]
    except (redis.exceptions.RedisError, OSError) as error:
        yield Finding(area, Severity.PROBLEM, unusable(f"{shown} ({role})", error), exit_status=3)
        return
    finally:
        await client.aclose()
    for each in away:
        text = f"node {each.node} of {shown} ({role}) does not answer: its accounts wait, the others go on"
        yield Finding(area, Severity.PROBLEM, text, "look at CLUSTER NODES, and start it", exit_status=3)
    for facts, (seconds, micros) in found:
        for finding in _judge_server(
            facts, int(seconds) + int(micros) / 1e6 - time.time(), f"{shown} ({role})"
        ):
            node = f"node {facts['tcp_port']}: " if facts and len(found) > 1 else ""
            yield replace(finding, text=f"{node}{finding.text}")


def _judge_server(facts: dict[str, Any] | None, ahead: float, shown: str) -> Iterator[Finding]:
    """Yield findings about one server: `facts` are those of INFO, `ahead` the seconds by which its clock is ahead."""
    if facts is None:
        yield Finding("redis", Severity.OK, f"{shown}: answers")
        yield Finding(
            "redis", Severity.NOTE, "the Redis user may not call INFO: version, memory and persistence are not checked",
            "check that the server has maxmemory-policy noeviction and appendonly yes",
        )  # fmt: skip
        yield judge_offset("Redis's", ahead, "")
        return
    name = "Valkey" if "valkey_version" in facts else "Redis"
    version = str(facts.get("valkey_version") or facts.get("redis_version", "unknown"))
    yield Finding("redis", Severity.OK, f"{shown}: {name} {version}")
    yield from judge_redis(facts)
    yield judge_offset(f"{name}'s", ahead, "")


async def _info(client: Redis) -> dict[str, Any] | None:
    """Return the facts about the server; None if its user may not ask for them."""
    try:
        return dict(await client.info("everything"))
    except redis.exceptions.NoPermissionError:
        return None


def judge_redis(facts: dict[str, Any]) -> Iterator[Finding]:
    """Yield what INFO shows that matters to a server that stores events and state."""
    version = version_of(facts)
    if version is not None and version < (6, 2):
        yield Finding(
            "redis", Severity.PROBLEM, "the server is older than Redis 6.2", "use Redis 6.2 or newer, or Valkey",
            exit_status=3,
        )  # fmt: skip
    if facts.get("role") == "slave":
        yield Finding(
            "redis", Severity.PROBLEM, "the server is a replica and refuses writes",
            "set ORDERSYNC_REDIS__URL to the primary", exit_status=2,
        )  # fmt: skip
    yield from _eviction(facts)
    if count := evicted(facts):
        text, _, advice = eviction_words(count).partition("; ")
        yield Finding("redis", Severity.PROBLEM, text, advice)
    if facts.get("aof_enabled") in {0, "0"}:
        yield Finding(
            "redis", Severity.WARNING, "a crash of Redis loses all events since its last snapshot",
            "run CONFIG SET appendonly yes",
        )  # fmt: skip
    for name, what in (
        ("aof_last_write_status", "append-only file"),
        ("rdb_last_bgsave_status", "snapshot"),
    ):
        if facts.get(name, "ok") != "ok":
            yield Finding(
                "redis", Severity.PROBLEM, f"the last write of the {what} failed, so Redis may refuse writes",
                "read the log of the server; often the disk is full",
            )  # fmt: skip
    yield _memory(facts)


def _eviction(facts: dict[str, Any]) -> Iterator[Finding]:
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    advice = "run CONFIG SET maxmemory-policy noeviction"
    if policy.startswith("allkeys") and int(facts.get("maxmemory", 0)):
        # The loss would not be noticed: evicted streams and record states leave no trace.
        yield Finding(
            "redis", Severity.PROBLEM,
            f"when memory is short, Redis drops keys ({policy}), including unread events and the state of records",
            advice,
        )  # fmt: skip
    elif policy.startswith("allkeys"):
        yield Finding(
            "redis", Severity.WARNING,
            f"if maxmemory is set, Redis drops keys ({policy}), including whole streams",
            advice,
        )  # fmt: skip
    elif policy != "noeviction":
        yield Finding(
            "redis", Severity.WARNING, f"when memory is short, Redis drops keys that expire ({policy}), including "
                "leases",
            advice,
        )  # fmt: skip


def _memory(facts: dict[str, Any]) -> Finding:
    used = int(facts.get("used_memory", 0))
    limit = int(facts.get("maxmemory", 0))
    whole = limit or int(facts.get("total_system_memory", 0))
    if not whole:
        return Finding("redis", Severity.OK, f"{used // _MEGABYTE} MB used")
    left, source = (
        max(0, whole - used),
        "of its limit" if limit else "on the machine, without a maxmemory",
    )
    text = f"{used // _MEGABYTE} MB used, {left // _MEGABYTE} MB left {source}"
    if left < max(whole * MIN_MEMORY_SHARE, MIN_MEMORY):
        advice = "give Redis more memory: while it is full, polling waits"
        return Finding("redis", Severity.WARNING, text, advice)
    return Finding("redis", Severity.OK, text)
