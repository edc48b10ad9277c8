"""The catalog service of the sandbox."""
