"""Scenarios: each of the 79 operations against the sandbox."""
