"""Tests of worker/queue/streams."""
