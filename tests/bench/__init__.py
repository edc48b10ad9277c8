"""Benchmarks: the engine beside what people write themselves, and beside the raw limit."""
