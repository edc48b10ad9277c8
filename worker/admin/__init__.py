"""Answers about a running installation: status, timeline, checks, dead letters. No terminal, no click."""
