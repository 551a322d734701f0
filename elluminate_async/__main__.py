"""``python -m elluminate_async``: the command line."""

from elluminate_async.cli import main

main()
