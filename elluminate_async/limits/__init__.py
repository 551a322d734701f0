"""Rate limits, concurrency, retry budget and circuit breaker, shared by engine and transport."""
