"""Aliases of `ordersync_consumer.replay`, for one release."""

from worker.queue.aliases import aliases

__getattr__ = aliases(__name__, "ordersync_consumer.replay", "ReplayRange", "ReplayResult", "replay")
