"""`ordersync contract`: show, import and probe the contract profile."""
