"""Calls that must run to their end, which the engine shares with the consumer kit."""

from ordersync_consumer.cancellation import AGAIN_SECONDS, end, finish, plain_errors

__all__ = ["AGAIN_SECONDS", "end", "finish", "plain_errors"]
