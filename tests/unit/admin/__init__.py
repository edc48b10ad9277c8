"""Tests of worker/admin."""
