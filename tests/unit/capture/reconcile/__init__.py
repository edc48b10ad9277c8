"""Tests of worker/capture/reconcile."""
