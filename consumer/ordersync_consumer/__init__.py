"""A kit for consumers of ordermesh-sync: events, and a consumer that reads, orders, retries and acknowledges them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ordersync_consumer.backoff import Backoff
    from ordersync_consumer.consumer import Consumer, Statistics
    from ordersync_consumer.consumer.delivery import Batch, Delivery, Reject, Trimmed
    from ordersync_consumer.envelope import Event
    from ordersync_consumer.errors import (
        ConsumerReplaced,
        DataError,
        FunctionMissing,
        GroupGone,
        NotReplayable,
        OrdersyncError,
        SettingsError,
    )
    from ordersync_consumer.functions import load_functions
    from ordersync_consumer.servers.connect import connect

__all__ = [
    "Backoff",
    "Batch",
    "Consumer",
    "ConsumerReplaced",
    "DataError",
    "Delivery",
    "Event",
    "FunctionMissing",
    "GroupGone",
    "NotReplayable",
    "OrdersyncError",
    "Reject",
    "SettingsError",
    "Statistics",
    "Trimmed",
    "connect",
    "load_functions",
]

_MODULES = {
    "Backoff": "backoff",
    "Consumer": "consumer",
    "Statistics": "consumer",
    "Batch": "consumer.delivery",
    "Delivery": "consumer.delivery",
    "Reject": "consumer.delivery",
    "Trimmed": "consumer.delivery",
    "Event": "envelope",
    "connect": "servers.connect",
    "load_functions": "functions",
}


def __getattr__(name: str) -> object:
    """Import a name when it is used: a program that needs an error or a key alone does not load redis-py."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value
