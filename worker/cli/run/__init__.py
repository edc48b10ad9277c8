"""`ordersync run`: the daemon."""
