"""How fast products and memory are, against what the card should reach; on a CPU the bare numbers.

A slow card is advice, never a failure: what else runs, a power limit or heat may be why.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from verify import kinds
from verify.computing import computing, device, where
from verify.machine import Advice
from verify.room import gpu_memory

# On a GPU large enough for its memory and its many cores to count, on a CPU quick.
_SIDE = {"cuda": 8192, "cpu": 512}
_BYTES = {"cuda": 2**30, "cpu": 2**25}
_SECONDS = {"cuda": 0.5, "cpu": 0.05}  # of measuring
_LEAST = 3  # times, however long each takes
_CAUSE = "another program computes on it, it is hot, or its power is limited"
_TYPE = (
    "nvidia-smi -q -d PERFORMANCE,POWER,CLOCK"
    "  # on the host: what runs, and which reason for slow clocks is active?"
)


def products() -> str:
    """Return how fast products of bfloat16 are; raise `Advice` where the card should do better."""
    place = device()
    side = _SIDE[place.type]
    left = torch.ones(side, side, dtype=torch.bfloat16, device=place)
    out = torch.empty_like(left)
    with computing("Measuring products"), torch.no_grad():
        seconds = measure(lambda: torch.mm(left, left, out=out), place)
    reached = 2 * side**3 / seconds / 1e12
    told = f"{reached:.3g} TFLOP/s in bfloat16"
    expected = _expected()
    if expected is None:
        return f"on {where()}: {told}"
    share = known_share("reached" if expected.reached else "stated")
    return judge(told, reached, expected.tflops, share)


def copies() -> str:
    """Return how fast memory is copied; raise `Advice` where the card should do better."""
    place = device()
    count = _BYTES[place.type] // 4
    if place.type == "cuda":
        count = min(count, gpu_memory().bytes // 32)
    source = torch.ones(count, device=place)
    target = torch.empty_like(source)
    with computing("Measuring memory"):
        seconds = measure(lambda: target.copy_(source), place)
    reached = 2 * 4 * count / seconds / 1e9  # read and written
    told = f"{reached:.3g} GB/s of memory"
    expected = _expected()
    if expected is None:
        return f"on {where()}: {told}"
    return judge(told, reached, expected.gb_per_s, known_share("bandwidth"))


def judge(told: str, reached: float, expected: float, share: float) -> str:
    """Return what was measured; raise `Advice` below ``share`` of what is expected."""
    ratio = reached / expected
    told = f"{told}, {ratio:.0%} of the {expected:.0f} that this card should reach"
    if ratio < share:
        raise Advice(f"{told}; below {share:.0%} it is slow.", _CAUSE, _TYPE)
    return told


def measure(run: Callable[[], Tensor], place: torch.device) -> float:
    """Return the seconds that ``run`` takes, the median of several times."""
    run()  # the first allocates, and chooses how
    times: list[float] = []
    until = time.perf_counter() + _SECONDS[place.type]
    while len(times) < _LEAST or time.perf_counter() < until:
        _wait(place)
        began = time.perf_counter()
        run()
        _wait(place)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def known_share(name: str) -> float:
    """Return the tolerance of that name on this system."""
    tolerance = kinds.known().tolerance
    share = float(getattr(tolerance, name))
    return share * tolerance.wsl if kinds.is_wsl() else share


def _expected() -> kinds.Card | None:
    if not torch.cuda.is_available():
        return None
    return kinds.card(torch.cuda.get_device_name(0))


def _wait(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)
