"""Tests of worker/capture/state."""
