"""The HTTP server of the sandbox: routes, and the control interface for tests."""
