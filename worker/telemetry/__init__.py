"""Logs, spans, metrics, and the HTTP endpoint that serves them."""
