"""What requests and chunks wait for; below the engine and the transport, which both use it."""
