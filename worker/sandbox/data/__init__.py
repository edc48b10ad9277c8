"""Made-up records: orders, shipments and the catalog, and how they change. No I/O."""
