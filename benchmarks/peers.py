"""The verdict on one check of one function, beside check50, nbgrader and otter-grader.

    python benchmarks/peers.py --runs 9

Each grader is given its own kind of assignment (`peer_assignments`) for the same function, whose
module imports torch, transformers and peft. Whole processes are timed from outside, from the
command to its end. Every run must have judged: a right answer passes and a wrong one fails, or
nothing is printed. Ours is judged twice: cold, in a runner of its own (``standalone``), and warm.

The graders are installed once, with the versions and hashes of ``peers.lock``, into ``.lab/peers``,
which takes torch and the other libraries from the lab's own environment.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from first_verdict import machine
from own_lab import PROJECT, OwnLab, own_lab, spread
from peer_assignments import (
    RIGHT,
    WRONG,
    Check50,
    Nbgrader,
    OtterGrader,
    Peer,
    Unjudged,
    write,
)

from verify.lab.layout import Layout

LOCK = Path(__file__).with_name("peers.lock")
PEERS = (Check50, Nbgrader, OtterGrader)
TARGETS = {"check50": 10, "nbgrader": 30}  # at least so many times as long as ours, warm


Row = tuple[str, str, list[float]]
"""Of the table: who judges, what is typed, seconds."""

CHECKS = '''\
"""One check."""

import torch

from verify.authoring import check


@check("cross_entropy", review="none")
def is_the_mean(trial):
    """`cross_entropy` is the mean over the targets."""
    logits, targets = trial.normal(4, 7), trial.integers(0, 7, 4)
    truth = torch.nn.functional.cross_entropy(logits, targets)
    trial.expect("cross_entropy", trial.observe("asked", logits=logits, targets=targets), truth)
'''
LAB = {
    "checks.py": CHECKS,
    "solution.py": RIGHT,
    "scene.py": "def asked(exercise, **given):\n    return exercise.cross_entropy(**given)\n",
    "misconceptions.py": "",
    "lab.toml": """\
title = "One function"
order = 1
required = true
review = "none"

[functions]
cross_entropy = "cross_entropy(logits: Tensor, targets: Tensor) -> Tensor"
""",
}


class Grader(Protocol):
    """A grader with one submission; see `peer_assignments.Peer`."""

    def forget(self) -> None:
        """Take away the verdict of an earlier run."""

    def judge(self) -> Callable[[], bool]:
        """Run; return what tells whether the answer was found right."""


class Ours:
    """This project, with one submission."""

    def __init__(self, lab: OwnLab, typed: str, exercise: str) -> None:
        self._lab = lab
        self._typed = typed.split()
        lab.write("one", exercise.encode())

    def forget(self) -> None:
        """Do nothing: the verdict is the exit code."""

    def judge(self) -> Callable[[], bool]:
        """Run ``invoke verify``."""
        came = self._lab.run(self._typed)
        if came.returncode not in (0, 1):  # 1: not ready
            raise Unjudged(came.stdout.decode())
        return lambda: came.returncode == 0


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="counted runs, after one that is not")
    parser.add_argument("--only-ours", action="store_true", help="no peers, and no package index")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = list(ours(Path(folder), options.runs))
        if not options.only_ours:
            rows += peers(Path(folder), install(Layout(PROJECT)), options.runs)
    print(f"{datetime.date.today()} · {machine()} · {options.runs} runs\n")
    print(table(rows))


def ours(folder: Path, runs: int) -> Iterator[Row]:
    """Yield the rows of this project: warm, then cold."""
    for name, text in LAB.items():
        write(folder / "labs" / "one" / name, text)
    typed = "invoke verify --skill one --runtime"
    with own_lab(folder / "labs") as lab:
        with lab.resident():
            warm = measure(lambda exercise: Ours(lab, f"{typed} local", exercise), runs)
            yield "ours, warm", f"{typed} local", warm
        cold = measure(lambda exercise: Ours(lab, f"{typed} standalone", exercise), runs)
        yield "ours, cold", f"{typed} standalone", cold


def peers(folder: Path, programs: Path, runs: int) -> Iterator[Row]:
    """Yield the rows of the peers whose programs are in ``programs``."""
    for kind in PEERS:

        def grader(exercise: str, kind: type[Peer] = kind) -> Peer:
            answer = "right" if exercise == RIGHT else "wrong"
            made = kind(programs, folder / kind.name / answer)
            made.submit(exercise)
            return made

        yield f"{kind.name} {version(kind.name)}", kind.typed, measure(grader, runs)


def measure(grader: Callable[[str], Grader], runs: int) -> list[float]:
    """Return how long a right answer takes, ``runs`` times, after one that is not counted.

    Raises:
        Unjudged: a wrong answer passed, or a right one failed.
    """
    judged(grader(WRONG), right=False)
    one = grader(RIGHT)
    return [judged(one, right=True) for _ in range(runs + 1)][1:]


def judged(one: Grader, *, right: bool) -> float:
    """Have a submission judged and return the seconds that took; see `measure`."""
    one.forget()
    start = time.perf_counter()
    passed = one.judge()
    took = time.perf_counter() - start
    if passed() != right:
        raise Unjudged(f"a {'right' if right else 'wrong'} answer was misjudged: {one}")
    return took


def install(layout: Layout) -> Path:
    """Return the folder of the peers' programs, installed if they are not as ``peers.lock`` says.

    Their environment takes torch and the other libraries from the lab's own: a line in a ``.pth``
    file adds a folder behind their own packages.
    """
    venv, lock = layout.state / "peers", LOCK.read_text()
    done = venv / LOCK.name
    if not done.exists() or done.read_text() != lock:
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([layout.python, "-m", "venv", venv], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--require-hashes", "-r", str(LOCK)], check=True)
        (packages,) = (venv / "lib").glob("python*/site-packages")
        shared = layout.venv / packages.relative_to(venv)
        (packages / "lab.pth").write_text(f"{shared}\n")
        done.write_text(lock)
    return venv / "bin"


def version(name: str) -> str:
    """Return the version of ``name`` in ``peers.lock``."""
    found = re.search(rf"^{re.escape(name)}==(\S+)", LOCK.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def table(rows: list[Row]) -> str:
    """Return the table; the first row is what the others are compared with."""
    lines = ["| grader | what is typed | median s | min s | max s | to ours, warm | target |"]
    lines.append("|---|---|---|---|---|---|---|")
    warm = statistics.median(rows[0][2])
    for name, typed, times in rows:
        least = TARGETS.get(name.split()[0])
        target = f"at least {least} times" if least else "-"
        ratio = statistics.median(times) / warm
        lines.append(f"| {name} | `{typed}` | {spread(times)} | {ratio:.1f} | {target} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
