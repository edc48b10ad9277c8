"""The records that the sandbox serves, their audit logs, and all ways to change them."""
