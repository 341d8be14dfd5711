"""Which runtime and which variant the lab comes up in, and why, in a learner's words."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from verify.lab import engine, gpu, gpu_wiring
from verify.lab.engine_troubles import NoEngine, shortfalls
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from verify.lab.engine import Engine
    from verify.lab.gpu import Gpu
    from verify.lab.gpu_wiring import Wiring


class Seen:
    """What this machine has, looked at when it is first asked for."""

    def __init__(
        self,
        look_for_engine: Callable[[], Engine | NoEngine] = engine.look,
        look_for_gpu: Callable[[], Gpu] = gpu.look,
    ) -> None:
        self._look_for_engine = look_for_engine
        self._look_for_gpu = look_for_gpu

    @functools.cached_property
    def engine(self) -> Engine | NoEngine:
        """The Docker engine, or why there is none."""
        return self._look_for_engine()

    @functools.cached_property
    def gpu(self) -> Gpu:
        """The GPU, or that there is none."""
        return self._look_for_gpu()


@dataclasses.dataclass(frozen=True)
class RuntimeChoice:
    """``compose`` or ``local``, and why."""

    name: str
    why: str


@dataclasses.dataclass(frozen=True)
class VariantChoice:
    """``gpu`` or ``cpu``, and why.

    Attributes:
        wiring: How the containers get the GPU; None: they get none, or it is no container.
        obstacle: Why a GPU that is here is not used though nobody asked for the CPU.
    """

    name: str
    why: str
    wiring: Wiring | None = None
    obstacle: Problem | None = None


def look() -> Seen:
    """Return what this machine has."""
    return Seen()


def choose_runtime(asked: str, seen: Seen) -> RuntimeChoice:
    """Return the runtime for ``asked``: ``auto``, ``compose`` or ``local``.

    Raises:
        Problem: containers were asked for, and this machine cannot run them.
    """
    if asked == "local":
        return RuntimeChoice("local", "asked for")
    found = seen.engine
    problems = [found] if isinstance(found, NoEngine) else shortfalls(found)
    if asked == "compose":
        if problems:
            raise problems[0]
        return RuntimeChoice("compose", "asked for")
    if problems:
        happened = problems[0].happened.rstrip(".")
        return RuntimeChoice("local", f"{happened}: {problems[0].cause}")
    assert not isinstance(found, NoEngine)
    return RuntimeChoice(
        "compose", f"Docker Engine {found.version} and Compose {found.compose} answer"
    )


def choose_variant(asked: str, seen: Seen) -> VariantChoice:
    """Return the variant for ``asked``: ``auto``, ``gpu`` or ``cpu``.

    Where no engine answers the choice is for processes of this machine, which need no wiring.

    Raises:
        Problem: the GPU was asked for, and cannot be used.
    """
    if asked == "cpu":
        return VariantChoice("cpu", "asked for")
    if not seen.gpu.card:
        if asked == "gpu":
            raise Problem(
                "There is no NVIDIA GPU in this machine.",
                cause="none is built in, or this virtual machine was not given one",
                type_this="invoke lab.up --variant cpu",
            )
        return VariantChoice("cpu", "no NVIDIA GPU was found")
    obstacle = obstacle_to_gpu(seen)
    if obstacle:
        if asked == "gpu":
            raise obstacle
        happened = obstacle.happened.rstrip(".")
        why = f"{seen.gpu.name} is not used: {happened}; to use it: {obstacle.type_this}"
        return VariantChoice("cpu", why, obstacle=obstacle)
    if isinstance(seen.engine, NoEngine):
        return VariantChoice("gpu", f"{seen.gpu.name}, driver {seen.gpu.driver}")
    wiring = gpu_wiring.wiring(seen.engine, seen.gpu)
    how = "a CDI device" if wiring == "cdi" else "the runtime nvidia"
    why = f"{seen.gpu.name}, driver {seen.gpu.driver}, as {how}"
    return VariantChoice("gpu", why, wiring)


def obstacle_to_gpu(seen: Seen) -> Problem | None:
    """Return why the GPU that is here cannot be used, or None when it can."""
    if obstacle := gpu.driver_problem(seen.gpu):
        return obstacle
    if isinstance(seen.engine, NoEngine):
        return None
    return gpu_wiring.wiring_problem(seen.engine, seen.gpu)
