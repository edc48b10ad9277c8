"""The streams of events: their groups, their backpressure, searching and following them."""
