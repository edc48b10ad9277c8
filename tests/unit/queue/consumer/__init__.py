"""Tests of worker/queue/consumer."""
