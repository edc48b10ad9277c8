"""The public API for consumers: events, and a kit that reads, orders, retries and acknowledges them."""

from worker.backoff import Backoff
from worker.errors import ConsumerReplaced, GroupGone, NotReplayable
from ordersync_consumer.consumer import Consumer, Statistics
from ordersync_consumer.consumer.delivery import Batch, Delivery, Reject, Trimmed
from ordersync_consumer.envelope import Event

__all__ = [
    "Backoff",
    "Batch",
    "Consumer",
    "ConsumerReplaced",
    "Delivery",
    "Event",
    "GroupGone",
    "NotReplayable",
    "Reject",
    "Statistics",
    "Trimmed",
]
