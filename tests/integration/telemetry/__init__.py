"""Tests of worker/telemetry."""
