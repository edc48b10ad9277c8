"""URLs as they may be shown."""

from __future__ import annotations

import pytest

from worker.config.urls import hide_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:p%40ss@host:6379/0", "redis://:***@host:6379/0"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis://:hun/ter2@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://user:hun@t/er2?x@host", "redis://user:***@host"),
        ("redis://host/0?ssl_password=hunter2&db=1", "redis://host/0?ssl_password=***&db=1"),
        ("redis://host/0?pass%77ord=hunter2", "redis://host/0?pass%77ord=***"),
        ("rediss+x://:hunter2@host", "rediss+x://:***@host"),
        (
            "redis+sentinel://u:hun%2Cter2@h1:1,h2:2/shop/0?sentinel_password=hunter2",
            "redis+sentinel://u:***@h1:1,h2:2/shop/0?sentinel_password=***",
        ),
        ("rediss+cluster://u:hunter2@h1:1,h2:2", "rediss+cluster://u:***@h1:1,h2:2"),
    ],
)
def test_passwords_of_urls_are_hidden(url: str, shown: str) -> None:
    """What tells where Redis is stays readable."""
    assert hide_password(url) == shown
