"""Tests of worker/capture."""
