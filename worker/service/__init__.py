"""The life of the daemon: start, supervision, heartbeat, systemd, end."""
