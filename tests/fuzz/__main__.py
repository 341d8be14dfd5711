"""Try the targets on new examples for a while: ``python -m tests.fuzz --minutes 10``.

The time is dealt out evenly. Each finding is told with the command that tries its examples again;
the exit code is then 1. An example that takes too long is a finding too.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import inspect
import random
import resource
import secrets
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tests.conftest import COURSES, running
from tests.fuzz.targets import TARGETS

_MODULES: Final = ("messages", "framing", "observations", "requests")
_EXAMPLE: Final = 90  # seconds, for one that has an honest verification in it
_STUCK: Final = 2 * _EXAMPLE  # and then even an alarm was not heard
_MEMORY: Final = 12 * 1024**3  # of address space: what asks for all there is fails, and is found


class Stuck(BaseException):
    """An example took too long; no `Exception`, which a judge would take for the learner's."""


class Campaign:
    """Tries targets in batches, and keeps what was found."""

    def __init__(self, needs: dict[str, Any], seed: int) -> None:
        self._needs = needs
        self._seed = seed
        self.tried = dict.fromkeys(TARGETS, 0)
        self.findings: dict[tuple[str, str], str] = {}

    def try_for(self, name: str, seconds: float) -> None:
        """Try batches of a target, which the seed decides, until the time is up."""
        deadline = time.monotonic() + seconds
        numbers = random.Random(f"{self._seed}/{name}")
        while time.monotonic() < deadline:
            self.try_batch(name, numbers.getrandbits(32))

    def try_batch(self, name: str, number: int) -> None:
        """Try one batch of a target."""

        def before_each() -> None:
            self.tried[name] += 1
            signal.alarm(_EXAMPLE)
            faulthandler.dump_traceback_later(_STUCK, exit=True)

        target = TARGETS[name]
        wanted = inspect.signature(target.holds).parameters.keys() - target.given.keys()
        try:
            target.batch(number, before_each)(**{need: self._needs[need] for need in wanted})
        except (Exception, Stuck) as error:
            self._keep(name, number, error)
        finally:
            signal.alarm(0)
            faulthandler.cancel_dump_traceback_later()

    def _keep(self, name: str, number: int, error: BaseException) -> None:
        """Keep each kind of error, by the line that it came from, the first time."""
        for one in error.exceptions if isinstance(error, ExceptionGroup) else [error]:
            where = traceback.extract_tb(one.__traceback__)[-1]
            place = f"{type(one).__name__} at {Path(where.filename).name}:{where.lineno}"
            if (name, place) not in self.findings:
                again = f"python -m tests.fuzz --target {name} --batch {number}"
                self.findings[name, place] = again
                _say(f"\nFOUND by {name}: {place}")
                _say("".join(traceback.format_exception(one)))
                _say(f"again: {again}")


@contextlib.contextmanager
def _needs() -> Iterator[dict[str, Any]]:
    """Yield what targets ask for beside their examples: a runner, as the tests have it."""
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        running(COURSES / "outcomes", Path(folder)) as runner,
    ):
        yield {"outcomes": runner}


def main() -> int:
    """Do as the command line says; return 1 if anything was found."""
    for module in _MODULES:
        importlib.import_module(f"tests.fuzz.test_{module}")
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--target", nargs="+", choices=sorted(TARGETS), help="only these")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of the examples")
    parser.add_argument("--batch", type=int, help="only the one of this number, of each target")
    options = parser.parse_args()
    names = options.target or list(TARGETS)
    warnings.simplefilter("ignore")  # of torch's, about what examples ask of it
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the runner is ended too
    with _needs() as needs:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.RLIM_INFINITY))
        campaign = Campaign(needs, options.seed)
        _say(f"seed {options.seed}")
        for name in names:
            began = time.monotonic()
            if options.batch is None:
                campaign.try_for(name, 60 * options.minutes / len(names))
            else:
                campaign.try_batch(name, options.batch)
            _say(f"{name}: {campaign.tried[name]} examples, {time.monotonic() - began:.0f} s")
    _say(f"{sum(campaign.tried.values())} examples, {len(campaign.findings)} findings")
    for (name, place), command in campaign.findings.items():
        _say(f"{name}: {place}: {command}")
    return 1 if campaign.findings else 0


def _too_long(number: int, frame: FrameType | None) -> None:
    raise Stuck(f"an example took more than {_EXAMPLE} s")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    sys.exit(main())
