"""``python -m elluminate_async``."""

from elluminate_async.cli import main

main()
