"""`ordersync forward`."""
