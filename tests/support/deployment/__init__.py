"""The deployment: its server, its Dockerfile, its image."""
