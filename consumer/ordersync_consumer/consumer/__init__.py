"""The consumer kit: fetch the events of a group, keep their order, retry and acknowledge them."""

from ordersync_consumer.consumer.consumer import Consumer
from ordersync_consumer.consumer.statistics import Statistics

__all__ = ["Consumer", "Statistics"]
