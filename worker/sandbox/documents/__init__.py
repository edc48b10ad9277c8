"""Documents that the sandbox serves as files."""
