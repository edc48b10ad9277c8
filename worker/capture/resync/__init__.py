"""Resyncs: reads of a resource that a person asked for."""
