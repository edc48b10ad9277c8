"""The contract probe: finds out which parts of the contract a gateway honours."""
