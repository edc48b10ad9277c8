"""Tests of worker/ordermesh."""
