"""What tests share: servers, programs, gateways, and what must be true of the events."""
