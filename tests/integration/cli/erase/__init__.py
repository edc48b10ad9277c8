"""`ordersync erase`."""
