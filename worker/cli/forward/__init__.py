"""`ordersync forward`: send events to an HTTP address."""
