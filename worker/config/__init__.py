"""The settings: their names, rules and defaults, and the sources of their values."""
