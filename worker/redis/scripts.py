"""Lua scripts. Each is a file whose header states its keys, arguments, answer and invariants."""

from ordersync_consumer.scripts import load

__all__ = ["load"]
