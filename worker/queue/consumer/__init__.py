"""The consumer kit: read, order, retry and acknowledge the events of a consumer group."""

from worker.queue.consumer.consumer import Consumer, Statistics

__all__ = ["Consumer", "Statistics"]
