"""The integrations, each over real sockets with what it integrates."""
