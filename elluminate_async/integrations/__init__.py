"""The client in other worlds: one module for each, which nothing else here imports.

Each needs its extra, and says so where that is missing. `problems` and `background` know no
framework, and need none.
"""
