"""Aliases of `ordersync_consumer.idempotency`, for one release."""

from worker.queue.aliases import aliases

__getattr__ = aliases(__name__, "ordersync_consumer.idempotency", "RedisOnce", "SqlOnce")
