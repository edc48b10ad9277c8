"""Tests of worker/contracts."""
