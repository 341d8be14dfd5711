"""What the resident runner costs: time of its own, memory, throughput, and how a queue grows.

    python benchmarks/runner.py

A runner is started for it in a temporary folder, with the real labs and two written here: in one
the check does nothing, in the other it waits. Every job is given the solution and must be ready.
The targets beside the numbers are this project's own.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import signal
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

from first_verdict import machine
from own_lab import PROJECT, OwnLab, own_lab, spread
from private_memory import Watch, resident_memory

from verify import client
from verify.plain import Plain
from verify.results import READING

NOTHING, WAITING = "nothing", "waiting"
REAL = "training"
WAITS = 1.5  # seconds, in which the memory of a job is looked at
CLIENTS = (1, 2, 4)
AT_ONCE = 100  # submissions that one request may have
CORES = len(os.sched_getaffinity(0))

VERDICT_SECONDS = 0.35
OVERHEAD_MS = 60
EXTRA_JOB_MB = 60

TOML = """\
title = "For a benchmark"
order = 100
required = false
review = "none"

[functions]
rest = "rest() -> None"
"""
CHECK = '''\
from verify.authoring import check


@check("rest", review="none")
def rests(trial):
    """It rests."""
'''
SCENE = f"import time\n\n\ndef held(exercise):\n    time.sleep({WAITS})\n"


def main() -> None:
    """Measure what is asked for and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; again for more")
    parser.add_argument("--runs", type=int, default=20, help="counted runs, after one that is not")
    parser.add_argument("--queues", type=int, nargs="+", default=[10, 100, 1000], metavar="JOBS")
    options = parser.parse_args()
    print(f"{datetime.date.today()} · {machine()} · {options.runs} runs")
    with runner_of_its_own() as (lab, pid):
        for part in options.only or PARTS:
            lines = PARTS[part](lab, pid, options)
            print("\n" + "\n".join(lines), flush=True)


@contextmanager
def runner_of_its_own() -> Iterator[tuple[OwnLab, int]]:
    """Yield a lab with the real labs and this benchmark's, and its runner's process id."""
    with own_lab(PROJECT / "labs") as lab:
        for skill, question in ((NOTHING, ""), (WAITING, '    trial.observe("held")\n')):
            folder = lab.layout.labs / skill
            folder.mkdir()
            parts = {"checks.py": CHECK + question, "scene.py": SCENE, "misconceptions.py": ""}
            parts |= {"solution.py": "def rest():\n    pass\n", "lab.toml": TOML}
            for name, text in parts.items():
                (folder / name).write_text(text)
        with lab.resident() as pid:
            yield lab, pid


def commands(lab: OwnLab, _pid: int, options: argparse.Namespace) -> Iterator[str]:
    """Time whole commands: one skill, and all of them beside what their checks compute."""
    yield "| what is typed | median s | min s | max s | computed s | target s |"
    yield "|---|---|---|---|---|---|"
    skills = [skill for skill in lab.skills if skill not in (NOTHING, WAITING)]
    for skill in skills:
        lab.write(skill, lab.solution(skill))
    one = [f"--skill {REAL}"]
    walls, computed = typed_often(lab, one, options.runs)
    yield row(one, walls, computed, VERDICT_SECONDS)
    every = [f"--skill {skill}" for skill in skills]
    walls, computed = typed_often(lab, every, options.runs)
    yield row(every, walls, computed, 1.5 * computed / 2 + 0.5)


def row(flags: list[str], walls: list[float], computed: float, target: float) -> str:
    """Return a line of the table of commands."""
    shown = flags[0] if len(flags) == 1 else f"--skill, {len(flags)} times"
    return f"| `invoke verify` {shown} | {spread(walls)} | {computed:.2f} | {target:.2f} |"


def typed_often(lab: OwnLab, flags: list[str], runs: int) -> tuple[list[float], float]:
    """Return the seconds of each run of a command, and the median of what its checks computed."""
    record = lab.layout.root / "record.json"
    shown = f"invoke verify --runtime local --json {record} {' '.join(flags)}".split()
    walls, computed = [], []
    for number in range(runs + 1):
        start = time.perf_counter()
        came = lab.run(shown)
        took = time.perf_counter() - start
        assert came.returncode == 0, came.stdout.decode()
        if number:
            walls.append(took)
            skills = json.loads(record.read_text())["skills"]
            computed.append(sum(own_seconds(skill) for skill in skills))
    return walls, statistics.median(computed)


def own_seconds(skill: dict[str, Any]) -> float:
    """Return how long the checks of a job took; the reading of the file is the runner's."""
    return float(sum(it["seconds"] for it in skill["checks"] if it["name"] != READING))


def overhead(lab: OwnLab, _pid: int, options: argparse.Namespace) -> Iterator[str]:
    """Time jobs one after the other, and take away what their checks take."""
    yield "| checks | ms of the job | ms of its checks | median ms besides | min | max | target |"
    yield "|---|---|---|---|---|---|---|"
    for skill, shown in ((NOTHING, "one that does nothing"), (REAL, f"those of `{REAL}`")):
        walls, owns = [], []
        for number in range(options.runs + 1):
            start = time.perf_counter()
            (told,) = have_judged(lab, [skill])
            if number:
                walls.append((time.perf_counter() - start) * 1000)
                owns.append(own_seconds(told) * 1000)
        besides = [wall - own for wall, own in zip(walls, owns, strict=True)]
        means = f"{statistics.median(walls):.0f} | {statistics.median(owns):.0f}"
        yield f"| {shown} | {means} | {spread(besides, '.0f')} | at most {OVERHEAD_MS} |"


def throughput(lab: OwnLab, _pid: int, options: argparse.Namespace) -> Iterator[str]:
    """Count the jobs of clients that each send one after the other."""
    yield f"| clients | jobs of `{REAL}` | seconds | jobs a minute |"
    yield "|---|---|---|---|"
    have_judged(lab, [REAL])
    for clients in CLIENTS:
        jobs = options.runs * clients

        def send(_client: int) -> None:
            for _ in range(options.runs):
                have_judged(lab, [REAL])

        took = at_once(send, clients)
        yield f"| {clients} | {jobs} | {took:.1f} | {jobs / took * 60:.0f} |"


def at_once(work: Callable[[int], object], count: int) -> float:
    """Do ``work`` so many times at once; return the seconds until all are done."""
    with ThreadPoolExecutor(count) as pool:
        start = time.perf_counter()
        list(pool.map(work, range(count)))
        return time.perf_counter() - start


def memory(lab: OwnLab, pid: int, _options: argparse.Namespace) -> Iterator[str]:
    """Look at the private memory of jobs whose checks allocate nothing, and of real ones."""
    yield "| jobs at once | private MB at the peak | of each process | for one more job | target |"
    yield "|---|---|---|---|---|"
    for skill in (WAITING, REAL):
        sums = []
        for jobs in dict.fromkeys((1, max(CORES, 2))):
            with Watch(pid) as watch:
                have_judged(lab, [skill] * jobs)
            sums.append(watch.total)
            each = ", ".join(f"{size:.0f}" for size in sorted(watch.peak.values()))
            more = "-" if len(sums) == 1 else f"{(sums[1] - sums[0]) / (jobs - 1):.0f}"
            target = f"at most {EXTRA_JOB_MB}" if skill == WAITING and len(sums) > 1 else "-"
            yield f"| {jobs} of `{skill}` | {watch.total:.0f} | {each} | {more} | {target} |"


def queue(lab: OwnLab, pid: int, options: argparse.Namespace) -> Iterator[str]:
    """Send many jobs at once and find each of them in the store, once."""
    yield "| jobs | seconds | ms a job | runner MB | its highest | told | kept | lost | doubled |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for jobs in options.queues:
        before = kept(lab)
        told: list[str] = []
        sizes = [min(AT_ONCE, jobs - sent) for sent in range(0, jobs, AT_ONCE)]

        def send(at: int, sizes: list[int] = sizes, told: list[str] = told) -> None:
            told.extend(skill["job"] for skill in have_judged(lab, [NOTHING] * sizes[at]))

        took = at_once(send, len(sizes))
        after = {job: checks for job, checks in kept(lab).items() if job not in before}
        assert set(after.values()) == {2}, "a job is kept without one of its two results"
        lost = jobs - len(set(told) & after.keys())
        doubled = len(told) - len(set(told)) + max(len(after) - jobs, 0)
        now, highest = resident_memory(pid)
        yield (
            f"| {jobs:,} | {took:.1f} | {took / jobs * 1000:.0f} | {now:.0f} | {highest:.0f} "
            f"| {len(told):,} | {len(after):,} | {lost} | {doubled} |"
        )


def killed(lab: OwnLab, pid: int, options: argparse.Namespace) -> Iterator[str]:
    """Kill the runner at a third and at two thirds of many jobs; clients ask again with keys."""
    yield "| jobs | killed | seconds | told | finished | interrupted | lost | doubled |"
    yield "|---|---|---|---|---|---|---|---|"
    jobs = max(options.queues)
    before = kept(lab)
    told: list[str] = []
    sizes = [min(AT_ONCE, jobs - sent) for sent in range(0, jobs, AT_ONCE)]

    def send(at: int) -> None:
        connect = functools.partial(client.connect, lab.layout.socket)
        asked: list[dict[str, Plain]] = [
            {"skill": NOTHING, "exercise": lab.solution(NOTHING), "trouble": None}
        ] * sizes[at]
        client.persist(connect, asked, None, take, patience=60.0)

    def take(event: dict[str, Any]) -> None:
        if event["event"] == "skill":
            assert event["skill"]["ready"], event
            told.append(event["skill"]["job"])

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(at_once, send, len(sizes))
        for part in (1, 2):
            while len(told) < jobs * part / 3:
                assert not sending.done(), sending.result()
                time.sleep(0.01)
            os.kill(pid, signal.SIGKILL)
            pid = lab.start_again()
        took = sending.result()
    finished = kept(lab).keys() - before.keys()
    lost, doubled = jobs - len(set(told) & finished), len(finished) - len(set(told))
    yield (
        f"| {jobs:,} | twice | {took:.1f} | {len(told):,} | {len(finished):,} "
        f"| {interrupted(lab)} | {lost} | {doubled} |"
    )


def interrupted(lab: OwnLab) -> int:
    """Return how many jobs were given up."""
    with closing(sqlite3.connect(lab.layout.results)) as store:
        (count,) = store.execute("SELECT count(*) FROM job WHERE state = 'interrupted'").fetchone()
    return int(count)


def kept(lab: OwnLab) -> dict[str, int]:
    """Return the finished jobs in the runner's store, each with the number of its results."""
    asked = (
        "SELECT job.id, count(*) FROM job JOIN result ON job = job.id"
        " WHERE state = 'finished' GROUP BY job.id"
    )
    with closing(sqlite3.connect(lab.layout.results)) as store:
        return dict(store.execute(asked))


def have_judged(lab: OwnLab, skills: list[str]) -> list[dict[str, Any]]:
    """Have solutions judged in one request and return what is told of each."""
    told: list[dict[str, Any]] = []

    def take(event: dict[str, Any]) -> None:
        if event["event"] == "skill":
            told.append(event["skill"])

    asked: list[dict[str, Plain]] = [
        {"skill": skill, "exercise": lab.solution(skill), "trouble": None} for skill in skills
    ]
    with client.connect(lab.layout.socket) as channel:
        client.verify(channel, asked, None, take)
    assert len(told) == len(skills)
    assert all(skill["ready"] for skill in told), told
    return told


PARTS: dict[str, Callable[[OwnLab, int, argparse.Namespace], Iterator[str]]] = {
    "memory": memory,  # first: later the zygote may be started anew, and would be counted
    "commands": commands,
    "overhead": overhead,
    "throughput": throughput,
    "queue": queue,
    "killed": killed,
}

if __name__ == "__main__":
    main()
