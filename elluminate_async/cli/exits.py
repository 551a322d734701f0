"""The exit codes of all commands; `docs/command-line.md` has them for users."""

from __future__ import annotations

from typing import Final

EXIT_PASSED: Final = 0
EXIT_FAILED: Final = 1
"""The subject of the question is there, and is not as wanted."""
EXIT_MISUSE: Final = 2
EXIT_NOT_MEASURED: Final = 3
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as a shell tells it."""
EXIT_TERMINATED: Final = 143
"""128 + SIGTERM."""
