"""``python -m tests.soak``: every kind of fault alone and a mix, with keys and without.

Prints one table and ends with 1 when a promise was broken: lost, swapped, foreign or
duplicated positions, a kind that never fired, a call that outlived its deadline.

With keys the service honours idempotency keys and sends results; without, it does neither,
lists in an order of its own, and shows rows late. Refusals with 429 slow a client down as
far as it goes, so that under them 500 items are rated, in fewer and larger chunks.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.soak.fuzz import fuzz
from tests.soak.runs import MIX, SOAK_KINDS, Case, Line, run

HEAD = (
    "kind              keys  seed  call      exchanges  fired  items     ok  failed  unknown  "
    "lost  swapped  foreign  duplicated  seconds"
)


def row(line: Line) -> str:
    """One line of the table."""
    case, counts = line.case, line.report.counts()
    return (
        f"{case.kind:16}  {'yes' if case.keys else 'no':4}  {case.seed:4}  {line.operation:8}  "
        f"{line.exchanges:9}  {line.fired.total():5}  {line.report.positions:5}  "
        f"{counts['ok']:5}  {counts['failed']:6}  {counts['unknown']:7}  {counts['lost']:4}  "
        f"{counts['swapped']:7}  {counts['foreign']:7}  {counts['duplicated']:10}  "
        f"{line.seconds:7.1f}"
    )


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def cases_of(arguments: argparse.Namespace) -> list[Case]:
    """Each kind with the first seed, the mix with each of them."""
    keyed = {"yes": [True], "no": [False], "both": [True, False]}[arguments.keys]
    cases: list[Case] = []
    for kind in arguments.kinds:
        seeds = range(1, arguments.seeds + 1) if kind == MIX else [1]
        for keys in keyed:
            for seed in seeds:
                cases.append(Case(kind, keys, seed, arguments.items, arguments.rated))
    return cases


def soak(cases: Sequence[Case]) -> list[str]:
    """Run all; the table as it grows, and what is wrong."""
    problems: list[str] = []
    fired: Counter[tuple[str, bool]] = Counter()
    say(HEAD)
    for case in cases:
        for line in asyncio.run(run(case)):
            say(row(line))
            for kind, times in line.fired.items():
                fired[kind, case.keys] += times
            where = f"{case.kind}, keys {case.keys}, seed {case.seed}, {line.operation}"
            problems += [f"{where}: {problem}" for problem in line.problems]
    wanted = {(kind, case.keys) for case in cases for kind in case.kinds}
    problems += [
        f"{kind}, keys {keys}: never fired" for kind, keys in wanted if not fired[kind, keys]
    ]
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    names = [*SOAK_KINDS, MIX]
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rated", type=int, default=10_000, help="of the items, at most")
    parser.add_argument("--seeds", type=int, default=2, help="of the mix")
    parser.add_argument("--kinds", nargs="+", choices=names, default=names, metavar="KIND")
    parser.add_argument("--keys", choices=["yes", "no", "both"], default="both")
    parser.add_argument("--fuzz", type=int, default=100_000, help="seeds; 0 for none")
    arguments = parser.parse_args()
    # Listings make hundreds of thousands of objects that live as long as their batch; looking
    # through them again and again is most of the time otherwise.
    gc.set_threshold(200_000, 20, 20)
    begun = time.monotonic()
    problems = soak(cases_of(arguments))
    if arguments.fuzz:
        result = asyncio.run(fuzz(range(arguments.fuzz)))
        say(str(result))
        problems += result.problems
    for problem in problems:
        say(f"BROKEN  {problem}")
    say(f"{len(problems)} broken promises; {time.monotonic() - begun:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
