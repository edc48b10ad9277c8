"""Tests of worker/queue."""
