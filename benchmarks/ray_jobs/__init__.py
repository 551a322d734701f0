"""The parts of `benchmarks.ray_kill`: the server with its ledger, the job, and who watches it."""
