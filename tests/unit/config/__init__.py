"""Tests of worker/config."""
