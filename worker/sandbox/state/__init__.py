"""The records that the sandbox serves, their audit logs, and every way in which they change."""
