"""Streams on the side of the worker: retention, backpressure, search. Consumers use the package `ordersync_consumer`.

The names that this package had for consumers are aliases of those of `ordersync_consumer`, for one release.
"""

from worker.queue.aliases import aliases

__getattr__ = aliases(
    __name__,
    "ordersync_consumer",
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
)
