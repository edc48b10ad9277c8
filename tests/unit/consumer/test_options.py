"""What a consumer refuses before it connects."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from ordersync_consumer import Consumer, SettingsError
from ordersync_consumer.resources import RESOURCES
from worker.config.resources import INTERVALS


@pytest.mark.parametrize(
    ("resource", "advice"),
    [
        ("order", r"Unknown resource 'order'\. Did you mean orders\? Known resources: orders, .*audit$"),
        ("Shipments", r"Did you mean shipments\?"),
        ("ordre_audit", r"Did you mean order_audit\?"),
        ("parcels", r"Unknown resource 'parcels'\. Known resources: orders, .*audit$"),
    ],
)
def test_a_misspelt_resource(resource: str, advice: str) -> None:
    """It would wait for ever at a stream that nobody writes: it is refused, with the nearest known name."""
    with pytest.raises(SettingsError, match=advice):
        Consumer(Redis(), group="g", resources=["orders", resource])


def test_the_kit_knows_every_resource() -> None:
    """Those that the worker can read."""
    assert tuple(INTERVALS) == RESOURCES
