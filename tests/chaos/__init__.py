"""What survives being killed."""
