"""The pure core, without I/O."""
