"""Code that several commands share: options, connections to Redis, shell completion."""
