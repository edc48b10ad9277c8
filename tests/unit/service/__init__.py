"""Tests of worker/service."""
