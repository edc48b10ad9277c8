"""Tests of worker/redis."""
