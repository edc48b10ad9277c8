"""What consumers see: the envelope of an event and the stream it stands in."""
