"""The contract probe: what of the contract holds at a gateway."""
