"""Tests of worker/ordermesh/contract."""
