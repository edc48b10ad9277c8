"""Tests of the consumer kit."""
