"""Aliases of `ordersync_consumer.dead`, for one release."""

from worker.queue.aliases import aliases

__getattr__ = aliases(__name__, "ordersync_consumer.dead", "DeadLetter", "DeadLetters", "DeadLetterSummary")
