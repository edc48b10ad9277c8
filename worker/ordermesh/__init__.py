"""The API of OrderMesh: operations, contract, login, budget, client."""
