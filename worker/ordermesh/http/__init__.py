"""Requests to OrderMesh: login, tokens, budget, transport, answers."""
