"""Health: one word for a resource, and why."""

from __future__ import annotations

from typing import Any

import pytest

from worker.capture.causes import Cause
from worker.capture.health import Health, Verdict, judge
from worker.capture.state.cursor import Cursor
from worker.capture.state.full_scan import FullScanProgress

NOW = 1_800_000_000.0
FINE: dict[str, Any] = {
    "baseline": True,
    "interval": 15.0,
    "fresh_as_of": NOW - 10,
    "last_success": NOW - 9,
    "last_started": NOW - 10,
}
WAIT: dict[str, Any] = {
    "wait": "status 429.",
    "wait_code": "rate_limited",
    "wait_since": NOW - 12,
    "wait_until": NOW + 18,
}


@pytest.mark.parametrize(
    ("fields", "health", "cause"),
    [
        ({}, Health.OK, ""),
        ({"baseline": False}, Health.STARTING, "about to start"),
        ({"baseline": False, "scan": FullScanProgress(page=6)}, Health.STARTING, "at page 7"),
        ({"unreadable": 1}, Health.DEGRADED, "1 record cannot be read"),
        ({"unreadable": 2}, Health.DEGRADED, "2 records cannot be read"),
        ({"failures": 1, "error": "boom"}, Health.DEGRADED, "failed once: boom"),
        ({"failures": 3, "error": "boom"}, Health.DEGRADED, "3 times in a row: boom"),
        ({"failures": 3, "fresh_as_of": NOW - 121}, Health.FAILING, "3 times"),
        ({"failures": 3, "fresh_as_of": NOW - 121, "interval": 60.0}, Health.DEGRADED, "3 times"),
        ({"last_started": NOW - 331}, Health.FAILING, "no poll was recorded for 331 s"),
        ({"last_started": NOW - 150}, Health.OK, ""),
        ({"fresh_as_of": NOW - 200}, Health.DEGRADED, "200 s old; no full scan is under way"),
        (
            {"fresh_as_of": NOW - 200, "scan": FullScanProgress(started=NOW - 9, page=2, pages=9)},
            Health.DEGRADED,
            "the full scan under way is at page 3 of about 9",
        ),
        ({"fresh_as_of": 0.0}, Health.DEGRADED, "it was never read completely; no full scan is under way"),
        ({"fresh_as_of": NOW - 200, "scan": FullScanProgress(seconds=90.0)}, Health.OK, ""),
        ({"last_started": NOW - 121, "interval": 60.0}, Health.OK, ""),
        ({"baseline": False, "failures": 1, "fresh_as_of": 0.0}, Health.FAILING, "failed once"),
        (WAIT, Health.DEGRADED, "repeated since 12 s, and the next try is in 18 s: status 429"),
        (WAIT | {"failures": 2, "error": "an older cause"}, Health.DEGRADED, "status 429"),
        (WAIT | {"fresh_as_of": NOW - 121}, Health.FAILING, "status 429"),
        (WAIT | {"baseline": False, "fresh_as_of": 0.0}, Health.DEGRADED, "status 429"),
        (
            WAIT | {"baseline": False, "fresh_as_of": 0.0, "wait_since": NOW - 121},
            Health.FAILING,
            "status 429",
        ),
        (WAIT | {"wait_until": NOW - 5}, Health.DEGRADED, "the next try is under way"),
        (WAIT | {"wait_until": NOW - 61}, Health.OK, ""),
    ],
)
def test_verdict(fields: dict[str, Any], health: Health, cause: str) -> None:
    """Failing is what fails and is old; degraded what is wrong but fresh, or old but on its way."""
    verdict = judge(Cursor(**FINE | fields), NOW)
    assert verdict.health is health
    assert cause in verdict.cause
    assert bool(verdict.cause) == bool(verdict.code or fields.get("failures")) == (health is not Health.OK)


def test_late_groups() -> None:
    """A group that does not read degrades a resource that is fine, and hides no other cause."""
    verdict = judge(Cursor(**FINE), NOW, late="group a has not read")
    assert verdict == Verdict(Health.DEGRADED, "group a has not read", Cause.GROUP_LATE)
    failed = Cursor(**FINE | {"failures": 1, "error": "boom", "error_code": "forbidden"})
    assert judge(failed, NOW, late="group a has not read").code == "forbidden"


@pytest.mark.parametrize(
    ("fields", "full", "cause"),
    [
        ({"paused": "g has much to read"}, False, "polling is paused: g has much to read"),
        ({"paused": "g", "fresh_as_of": NOW - 9000}, False, "polling is paused: g"),
        ({"paused": "g", "failures": 3, "error": "boom", "fresh_as_of": NOW - 9000}, False, "paused: g"),
        ({"paused": "g", "baseline": False, "fresh_as_of": 0.0}, False, "paused: g"),
        (
            {"failures": 9, "error_code": "redis_full", "error": "no room", "fresh_as_of": 0.0},
            False,
            "no room",
        ),
        ({"error_code": "redis_full", "last_started": NOW - 9000, "fresh_as_of": 0.0}, True, "Redis is full"),
        ({"baseline": False, "last_started": 0.0}, True, "Redis is full"),
    ],
)
def test_what_a_restart_does_not_help_is_degraded(fields: dict[str, Any], full: bool, cause: str) -> None:
    """Consumers, or Redis, have to catch up: however long that takes, a supervisor leaves the worker alone."""
    verdict = judge(Cursor(**FINE | fields), NOW, since=NOW - 9000, full=full)
    assert verdict.health is Health.DEGRADED
    assert cause in verdict.cause


@pytest.mark.parametrize(
    "fields", [{"paused": "g"}, {"failures": 1, "error_code": "redis_full", "error": "no room"}]
)
def test_a_pause_hides_no_dead_worker(fields: dict[str, Any]) -> None:
    """A paused resource is looked at every few seconds; when nobody does any more, that is the news."""
    stale = FINE | fields | {"last_started": NOW - 331, "fresh_as_of": NOW - 331}
    assert judge(Cursor(**stale), NOW).health is Health.FAILING


def test_never_read_is_starting() -> None:
    """A resource without a cursor has not begun."""
    assert judge(Cursor(), NOW).health is Health.STARTING
    assert judge(Cursor(), NOW, since=NOW - 100).health is Health.STARTING


def test_what_is_never_read_fails_in_the_end() -> None:
    """A worker that cannot even note its first poll, as with a full Redis, does not count as healthy for ever."""
    verdict = judge(Cursor(), NOW, since=NOW - 121)
    assert verdict.health is Health.FAILING
    assert "no poll was recorded" in verdict.cause


def test_only_failing_is_not_alive() -> None:
    """A supervisor restarts what fails, and leaves what is merely degraded or starting."""
    assert [health for health in Health if not health.alive] == [Health.FAILING]
