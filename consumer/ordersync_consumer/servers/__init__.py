"""Connections to one server of Redis or Valkey, to the master that sentinels name, or to the nodes of a cluster."""
