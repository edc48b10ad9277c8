"""Tests of worker/capture/probe."""
