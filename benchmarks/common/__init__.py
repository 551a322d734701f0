"""What the benchmarks share: child processes on cores of their own, and how figures are told."""
