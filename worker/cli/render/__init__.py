"""The layout of results on a terminal."""
