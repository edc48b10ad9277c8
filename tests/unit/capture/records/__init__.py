"""Tests of worker/capture/records."""
