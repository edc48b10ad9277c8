"""Tests of worker/ordermesh/http."""
