"""Many items: chunks, bounded concurrency, limits, merging. Knows nothing of HTTP."""
