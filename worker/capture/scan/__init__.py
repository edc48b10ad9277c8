"""Reads of a list: strategies, paginators, the scanner, and what a finished read concludes."""
