"""Change capture: from the pages of OrderMesh to events and state in Redis."""
