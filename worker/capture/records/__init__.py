"""What is known of one record: fingerprint, difference, event. No I/O."""
