"""The accounts that are kept in Redis beside those of the settings, and what of both a worker serves."""
