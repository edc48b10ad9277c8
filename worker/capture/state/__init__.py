"""What capture keeps in Redis: cursors, record states, leases, queues of reads, run records."""
