"""Exponential backoff, which the engine shares with the consumer kit."""

from ordersync_consumer.backoff import Backoff

__all__ = ["Backoff"]
