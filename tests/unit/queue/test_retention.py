"""Retention and groups: what the settings say, and how idle a group is."""

from __future__ import annotations

import pytest

from ordersync_consumer.groups import (
    Group,
    GroupConsumer,
    RetentionLimits,
    StreamStatus,
    idle_seconds,
    written_at,
)
from worker.config.sections import BackpressureSettings, EventSettings, KeptSettings, RetentionSettings
from worker.config.settings import load
from worker.errors import SettingsError


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder without `.env`."""
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


def test_defaults() -> None:
    """A week, and as many events and bytes as come in it; marks that a first read of a large account passes."""
    assert RetentionSettings().of("orders") == KeptSettings(max_age=604_800, max_entries=0, max_bytes=0)
    assert BackpressureSettings() == BackpressureSettings(
        entries=500_000, bytes=1 << 30, memory=0.9, resume=0.9
    )
    assert EventSettings().groups == {}


def test_a_resource_may_have_limits_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves out is that of all; 0 lifts a limit."""
    monkeypatch.setenv("ORDERSYNC_RETENTION__MAX_AGE", "86400")
    monkeypatch.setenv("ORDERSYNC_RETENTION__MAX_BYTES", "1000000")
    monkeypatch.setenv("ORDERSYNC_RETENTION__RESOURCES", '{"notes": {"max_age": 3600, "max_bytes": 0}}')
    retention = load().retention
    assert retention.of("orders") == KeptSettings(max_age=86_400, max_entries=0, max_bytes=1_000_000)
    assert retention.of("notes") == KeptSettings(max_age=3600, max_entries=0, max_bytes=0)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EVENTS__GROUPS", '{"warehouse": ["order"]}', "Unknown resource 'order'"),
        ("EVENTS__GROUPS", '{"": ["orders"]}', "is not a group name"),
        ("EVENTS__GROUPS", '{"a b": ["orders"]}', "'a b' is not a group name"),
        ("RETENTION__RESOURCES", '{"orders": {"max": 1}}', "ORDERSYNC_RETENTION__RESOURCES__ORDERS__MAX"),
        ("RETENTION__MAX_AGE", "-1", "ORDERSYNC_RETENTION__MAX_AGE"),
        ("BACKPRESSURE__MEMORY", "90", "ORDERSYNC_BACKPRESSURE__MEMORY"),
        ("BACKPRESSURE__RESUME", "0", "ORDERSYNC_BACKPRESSURE__RESUME"),
    ],
)
def test_what_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    """A group that would never get an event, a limit that is none."""
    monkeypatch.setenv(f"ORDERSYNC_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert said in str(caught.value)


def test_limits_as_the_scripts_take_them() -> None:
    """Milliseconds; a part of one is none."""
    assert RetentionLimits(max_age=1.5, max_entries=7, max_bytes=9).arguments == [1500, 7, 9]
    assert RetentionLimits().arguments == [0, 0, 0]


def group(oldest_unread: str = "") -> Group:
    return Group(
        name="g", needed="1-1", delivered="1-0", pending=0, oldest_pending="", unread=1,
        oldest_unread=oldest_unread, held=0,
    )  # fmt: skip


def test_how_idle_a_group_is() -> None:
    """The most recent of its consumers counts; without any, the age of what it has not read."""
    consumers = [GroupConsumer("a", 0, 50.0), GroupConsumer("b", 0, 7.0)]
    assert idle_seconds(group("1000000-0"), consumers, 5000.0) == 7.0
    assert idle_seconds(group("1000000-0"), [], 5000.0) == 4000.0
    assert idle_seconds(group("9000000-0"), [], 5000.0) == 0.0  # the clock of the server is ahead of ours
    assert idle_seconds(group(), [], 5000.0) == 0.0
    assert written_at("1500-7") == 1.5


def test_full_is_above_maxmemory() -> None:
    """As Redis has it: at the limit it still writes. Without one it never is."""
    assert StreamStatus(0, 0.0, 11, 10).full
    assert not StreamStatus(0, 0.0, 10, 10).full
    assert not StreamStatus(0, 0.0, 10, 0).full
