"""From the keystroke to the verdict: ``invoke verify --skill training``, warm beside cold.

Whole processes are timed from outside, as a person would: the command is started, and the clock
stops when it has ended. Cold is the same job in a runner of its own (``--runtime standalone``):
the imports of torch, transformers, datasets and peft are paid again. Run it in the project's
folder with the lab up:

    invoke lab.up
    python benchmarks/first_verdict.py
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skill", default="training")
    parser.add_argument(
        "--runs", type=int, default=9, help="counted runs of each, after one not counted"
    )
    options = parser.parse_args()
    print(f"{datetime.date.today()} · {machine()} · skill {options.skill}, {options.runs} runs\n")
    print("| what is typed | exercise | exit code | median s | min s | max s |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for exercise, file in (("solution", "solution.py"), ("starter", "exercise.py")):
            workspace = Path(folder, exercise)
            target = workspace / options.skill / "exercise.py"
            target.parent.mkdir(parents=True)
            target.write_bytes((PROJECT / "labs" / options.skill / file).read_bytes())
            for runtime in ("local", "standalone"):
                measure(options.skill, runtime, exercise, workspace, options.runs)


def measure(skill: str, runtime: str, exercise: str, workspace: Path, runs: int) -> None:
    """Time one command ``runs`` times, after one run that is not counted, and print its row."""
    shown = ["invoke", "verify", "--skill", skill, "--runtime", runtime]
    command = [sys.executable, "-m", *shown, "--workspace", str(workspace)]
    times, codes = [], set()
    for number in range(runs + 1):
        start = time.perf_counter()
        ended = subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL, check=False)
        codes.add(ended.returncode)
        if number:
            times.append(time.perf_counter() - start)
    row = f"{statistics.median(times):.2f} | {min(times):.2f} | {max(times):.2f}"
    print(f"| `{' '.join(shown)}` | {exercise} | {', '.join(map(str, sorted(codes)))} | {row} |")


def machine() -> str:
    """Return the processor, the cores and the memory in a few words."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
