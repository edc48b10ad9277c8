"""The streams of events: their groups, backpressure, searching and tailing them."""
