"""Inputs that nobody would write, and what reads them."""
