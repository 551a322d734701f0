"""One operation after the other by this SDK and by the official 1.5.2, each on its own copy."""

from tests.official.differential import parts, work

__all__ = ["parts", "work"]  # the operations, which are known once these are read
