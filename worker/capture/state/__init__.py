"""The state of capture in Redis: cursors, record states, leases, refresh queues, run records."""
