"""The endpoints, one module a noun, with the names of ``schemas``."""
