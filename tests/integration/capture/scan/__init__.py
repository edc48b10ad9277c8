"""Tests of worker/capture/scan."""
