"""Connections to Redis, Lua scripts, and the embedded server."""
