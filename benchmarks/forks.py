"""What a fork of the zygote costs, with the pages that its imports leave and with larger ones.

    .lab/venv/bin/python benchmarks/forks.py

One process imports what the zygote does, is forked, is given large pages (`verify.huge_pages`), and
is forked again. A job's judge and keeper are each forked in two steps.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Callable

from first_verdict import machine
from own_lab import spread
from private_memory import resident_memory

from verify import huge_pages, zygote
from verify.sealing import FIXED, clean_environment


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100, help="forks of each kind")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in FIXED.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], clean_environment())  # as it starts
    zygote.preload()
    print(f"{datetime.date.today()} · {machine()} · {options.runs} runs\n")
    print("| pages | resident MB | forked | median ms | min ms | max ms |")
    print("|---|---|---|---|---|---|")
    forked("as the imports leave them", options.runs)
    start = time.perf_counter()
    done = sum(huge_pages.collapse())
    took = time.perf_counter() - start
    forked(f"{done} large ones", options.runs)
    print(f"\nPutting the large pages there took {took:.2f} s.")


def forked(pages: str, runs: int) -> None:
    """Time forks of this process and print their rows."""
    resident, _ = resident_memory(os.getpid())
    for how, work in (("once", end_at_once), ("twice", fork_and_end)):
        times = [until_reaped(work) * 1000 for _ in range(runs)]
        print(f"| {pages} | {resident:.0f} | {how} | {spread(times, '.1f')} |")


def until_reaped(work: Callable[[], None]) -> float:
    """Fork a child that does ``work`` and ends; return the seconds until it is reaped."""
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    os.waitpid(pid, 0)
    return time.perf_counter() - start


def end_at_once() -> None:
    """Do nothing."""


def fork_and_end() -> None:
    """Start a child that ends at once, and do not wait for it."""
    if os.fork() == 0:
        os._exit(0)


if __name__ == "__main__":
    main()
