"""Tests of worker/capture/resync."""
