"""Generated records: orders, shipments and the catalog, and their changes. No I/O."""
