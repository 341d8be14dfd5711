"""What the client's half of the environment lab looks at, in the order in which it is shown."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from verify.lab import exposure, gpu, gpu_wiring, host_gpu, host_room, hub, owner, toolkit_errors
from verify.lab.engine_troubles import NoEngine, shortfalls
from verify.machine import Advice

if TYPE_CHECKING:
    from collections.abc import Callable

    from verify.lab.view import Finding, View

NO_GPU = "not run: no GPU"
_NO_ENGINE = "not run: no Docker engine; the local runtime needs none"
_ANY = ("", "")


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes:
        needed_by: The runtime and the variant that cannot do without; an empty one: any.
        absent: What is said where there is nothing to look at.
        gpu: Whether it is of a GPU: where there is none, that is what is said.
        inside: Whether it is to be seen in JupyterLab's container too.
        network: Whether it asks the network.
        advice: Whether it never fails anything.
    """

    name: str
    title: str
    needed_by: tuple[str, str]
    absent: str
    find: Callable[[View], Finding]
    inside: bool = False
    network: bool = False
    advice: bool = False
    gpu: bool = False

    def why_not(self, view: View) -> str:
        """Return what is said where there was nothing to look at."""
        return NO_GPU if self.gpu and not view.seen.gpu.card else self.absent


def _engine(view: View) -> Finding:
    found = view.seen.engine
    if isinstance(found, NoEngine):
        return found if found.installed else None
    how = "rootless, " if found.rootless else ""
    return f"Docker Engine {found.version} ({how}{found.architecture}, cgroup v{found.cgroup})"


def _recent(view: View) -> Finding:
    engine = view.seen.engine
    if isinstance(engine, NoEngine):
        return None
    short = shortfalls(engine)
    return short[0] if short else f"Docker Compose {engine.compose}"


def _driver(view: View) -> Finding:
    found = view.seen.gpu
    if not found.card:
        return None
    return gpu.driver_problem(found) or f"{found.name}, driver {found.driver}"


def _toolkit(view: View) -> Finding:
    engine, found = view.seen.engine, view.seen.gpu
    if not found.card or isinstance(engine, NoEngine):
        return None
    wiring = gpu_wiring.wiring(engine, found)
    if wiring is None and gpu_wiring.stale_problem(found):
        return None  # told below
    return gpu_wiring.wiring_problem(engine, found) or f"by {wiring}"


def _fresh(view: View) -> Finding:
    found = view.seen.gpu
    if not found.card:
        return None
    if broken := next((it for it in found.specifications if it.trouble), None):
        return Advice(
            f"{broken.file} cannot be read: {broken.trouble}.",
            cause="somebody changed it, or its writing was cut short",
            type_this=f"sudo rm {broken.file} && {toolkit_errors.GENERATE}",
        )
    if not found.specification:
        return None
    return gpu_wiring.stale_problem(found) or str(found.specification.file)


def _sealing(view: View) -> Finding:
    if not view.sealing:
        return None
    if view.sealing == "full":
        return "full"
    return Advice(
        f"The sealing is {view.sealing}. {' '.join(view.notes)}".rstrip(),
        cause="the kernel lacks a wall, or the runner was started without the right to become "
        "another user",
        type_this="invoke lab.up --runtime compose  # or Linux 6.12; strangers' code: a machine "
        "of its own",
    )


CHECKS = (
    Check("host_engine", "A Docker engine answers.", ("compose", ""), _NO_ENGINE, _engine),
    Check(
        "host_compose",
        "Engine and Compose are recent enough for the lab's containers.",
        ("compose", ""),
        _NO_ENGINE,
        _recent,
    ),
    Check(
        "host_driver",
        f"The NVIDIA driver is loaded, and is R{gpu.DRIVER_FLOOR} or newer.",
        ("", "gpu"),
        "",
        _driver,
        gpu=True,
    ),
    Check(
        "host_kind",
        "The GPU is of a kind that CUDA 13 and bfloat16 know.",
        ("", "gpu"),
        "not run: the driver does not tell the GPU's name",
        host_gpu.kind,
        gpu=True,
    ),
    Check(
        "host_gpu_health",
        "The GPUs' own counters tell of no fault.",
        ("", "gpu"),
        "not run: the driver counts no faults for this GPU",
        host_gpu.health,
        gpu=True,
    ),
    Check(
        "host_toolkit",
        "Docker can hand the GPU to a container.",
        ("compose", "gpu"),
        "not run: no Docker engine that could, or what CDI says is stale",
        _toolkit,
        gpu=True,
    ),
    Check(
        "host_cdi",
        "What the GPU's CDI specification names is there.",
        ("compose", "gpu"),
        "not run: no CDI specification of an NVIDIA GPU",
        _fresh,
        gpu=True,
    ),
    Check(
        "host_gpu_used",
        "The lab computes on the GPU that is here.",
        _ANY,
        "not run: it cannot be used, for which another check has the reason",
        host_gpu.used,
        advice=True,
        gpu=True,
    ),
    Check(
        "host_disks",
        "There is room on disk for the lab, models and images.",
        _ANY,
        "",
        host_room.disks,
        inside=True,
    ),
    Check(
        "host_workspace",
        "JupyterLab's user may write every file of the workspace.",
        _ANY,
        "not run: no workspace yet, or another user's",
        owner.workspace,
        inside=True,
    ),
    Check(
        "host_sealing",
        "The sealing around learner code is full.",
        _ANY,
        "not run: no runner was asked",
        _sealing,
        inside=True,
        advice=True,
    ),
    Check(
        "host_jupyter",
        "JupyterLab is to be reached from this machine alone, and with its token.",
        _ANY,
        "not run: JupyterLab is not up",
        exposure.jupyterlab,
    ),
    Check(
        "host_other_jupyter",
        "No other Jupyter server of yours lets everybody in.",
        _ANY,
        "not run: no other Jupyter server is up",
        exposure.others,
        advice=True,
    ),
    Check(
        "host_offline",
        "The switches that declare a machine offline agree.",
        _ANY,
        "",
        hub.switches,
        inside=True,
        advice=True,
    ),
    Check(
        "host_hub",
        "The Hugging Face hub answers, or is declared out of reach.",
        _ANY,
        "not run: first the switches must agree",
        hub.reachable,
        inside=True,
        network=True,
        advice=True,
    ),
)
