"""Tests of worker/capture/refresh."""
