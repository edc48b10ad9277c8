"""`ordersync consume`: hand events to a command of the user."""
