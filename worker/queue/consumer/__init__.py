"""The consumer kit: fetch the events of a group, keep their order, retry and acknowledge them."""

from worker.queue.consumer.consumer import Consumer
from worker.queue.consumer.statistics import Statistics

__all__ = ["Consumer", "Statistics"]
