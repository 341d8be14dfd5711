"""The checks of the machine by themselves: no runner, no learner's process, one JSON a line.

``python -I -m verify.node_checks --labs DIR [--gpu-workload] [--parent PID]``: what
`verify.node_process` starts, and what ends with it. Its lines are the events that a runner tells of
the skill ``environment``.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from verify import describe, walls
from verify.judging import Bench, not_run, result, waits_for
from verify.labs import read_lab
from verify.machine import caches, use_caches
from verify.privileges import die_with
from verify.results import CheckResult
from verify.scene import begin_anew
from verify.text import clean

RUNTIME = "node"
_WORKLOAD = "it computes on the GPU; --gpu-workload asks for that"
_NOT_ROOT = "it was asked by another user than root"


def events(labs: Path, *, workload: bool, gpu: str | None) -> Iterator[dict[str, Any]]:
    """Yield the events of one look at this machine.

    Args:
        labs: The folder of the labs.
        workload: Whether to compute on the GPU.
        gpu: Its name, if there is one.
    """
    seed = secrets.randbits(48)
    found = walls.look(user=os.geteuid() == 0, reason=_NOT_ROOT)
    environment = describe.environment(RUNTIME, found)
    yield {"event": "environment", "seed": seed, "environment": msgspec.to_builtins(environment)}
    bench = Bench(read_lab(labs / "environment"))
    lab = bench.lab
    yield {"event": "job", "skill": lab.skill, "title": lab.title}
    results: list[CheckResult] = []
    for event in _results(bench, seed, hidden=gpu is not None and not workload):
        yield event
        if event["event"] == "result":
            results.append(msgspec.convert(event["result"], CheckResult))
    yield {"event": "skill", "skill": msgspec.to_builtins(lab.result(results))}


def _results(bench: Bench, seed: int, *, hidden: bool) -> Iterator[dict[str, Any]]:
    unmet: dict[str, str] = {}
    for check in bench.checks:
        yield {"event": "started", "check": check.name}
        if waits := waits_for(check.after, unmet):
            verdict = waits
        elif check.gpu and hidden:
            verdict = not_run("missing", _WORKLOAD)
        else:
            verdict = bench.judge(check, bench.rehearse(), seed)
        if not verdict.holds:
            unmet[check.name] = check.title
        yield {"event": "result", "result": result(check, verdict)}


def main(words: list[str]) -> int:
    """Tell the events on standard output, and nothing else there; return the exit code."""
    parser = argparse.ArgumentParser(prog="verify.node_checks", description=__doc__)
    parser.add_argument("--labs", type=Path, required=True)
    parser.add_argument("--gpu-workload", action="store_true")
    parser.add_argument("--parent", type=int, metavar="PID", help="end with this process")
    told = parser.parse_args(words)
    if told.parent is not None:
        die_with(told.parent)
    with _alone() as out:
        gpu = describe.gpu()
        if not told.gpu_workload:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks
        use_caches(caches())
        begin_anew(threads=1)
        for event in events(told.labs, workload=told.gpu_workload, gpu=gpu):
            out.write(json.dumps(event, default=lambda it: clean(str(it))) + "\n")
            out.flush()
    return 0


def _alone() -> IO[str]:
    """Return what was standard output; what libraries print there goes nowhere from now on."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
    return out


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
