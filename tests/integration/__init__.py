"""Against a real Valkey and the sandbox over real sockets."""
