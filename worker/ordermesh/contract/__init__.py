"""The contract with OrderMesh: operations, the profile over them, and where it comes from."""
