"""How the engine hands this machine's GPU to a container, or why it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from verify.lab import cdi, toolkit_errors
from verify.lab.engine_troubles import numbers
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from verify.lab.engine import Engine
    from verify.lab.gpu import Gpu

Wiring = Literal["cdi", "runtime"]
"""``cdi``: as the CDI device `cdi.ALL`. ``runtime``: by the container runtime ``nvidia``."""

_REFRESHES_ITSELF: Final = (1, 18)  # the toolkit with the service nvidia-cdi-refresh
_FOR_ROOTLESS: Final = (
    "nvidia-ctk runtime configure --runtime=docker --config=$HOME/.config/docker/daemon.json && "
    "systemctl --user restart docker && "
    "sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place"
)


def wiring(engine: Engine, gpu: Gpu) -> Wiring | None:
    """Return how a container gets the GPU; None when it cannot.

    CDI goes first: containers keep the GPU when systemd is reloaded, which those of the older
    hook lose (https://github.com/NVIDIA/nvidia-docker/issues/1730). A specification that is out
    of date stops them from starting, so then the runtime does, where there is one.
    """
    if knows_device(engine, gpu) and not (gpu.specification and gpu.specification.gone):
        return "cdi"
    return "runtime" if "nvidia" in engine.runtimes else None


def knows_device(engine: Engine, gpu: Gpu) -> bool:
    """Return whether the engine knows the CDI device of all GPUs.

    An engine before 28.2 does not say; it looks where it says that it looks.
    """
    if cdi.ALL in engine.cdi_devices:
        return True
    specification = gpu.specification
    return (
        not engine.lists_devices
        and specification is not None
        and str(specification.file.parent) in engine.cdi_folders
    )


def wiring_problem(engine: Engine, gpu: Gpu) -> Problem | None:
    """Return why containers of ``engine`` cannot have the GPU, or None when they can."""
    if wiring(engine, gpu):
        return None
    if stale := stale_problem(gpu):
        return stale
    told = next((it for it in engine.warnings if "CDI" in it), "")
    if told:
        return Problem(
            f"Docker rejects a CDI specification: {told.rpartition(': ')[2]}",
            cause="the toolkit that wrote it is newer than this engine, or somebody changed it",
            type_this=f"{toolkit_errors.GENERATE}  # and if that does not help: upgrade Docker",
        )
    if gpu.specification and not engine.cdi_folders:
        return Problem(
            "Docker does not hand out CDI devices, and the GPU is one.",
            cause="the engine is older than 28.2, or CDI was switched off in its daemon.json",
            type_this=toolkit_errors.SWITCH_CDI_ON,
        )
    if gpu.toolkit is None:
        return Problem(
            "Docker cannot hand the GPU to a container.",
            cause="NVIDIA's container toolkit is not installed: " + toolkit_errors.INSTALL_GUIDE,
            type_this=toolkit_errors.INSTALL,
        )
    if not gpu.specification and engine.lists_devices and engine.cdi_folders:
        return _problem("There is no CDI specification of the GPU.", gpu)
    return Problem(
        "Docker does not know NVIDIA's container toolkit, which is installed.",
        cause="Docker was not told of it, or not restarted since",
        type_this=_FOR_ROOTLESS if engine.rootless else toolkit_errors.CONFIGURE,
    )


def stale_problem(gpu: Gpu) -> Problem | None:
    """Return what is wrong with the CDI specification that goes first, or None."""
    specification = gpu.specification
    if specification is None or not specification.gone:
        return None
    first, *others = specification.gone
    gone = f"{first} and {len(others)} more are gone." if others else f"{first} is gone."
    return _problem(f"The CDI specification {specification.file} is out of date: {gone}", gpu)


def _problem(happened: str, gpu: Gpu) -> Problem:
    refreshes = numbers(gpu.toolkit or "0") >= _REFRESHES_ITSELF
    return Problem(
        happened,
        cause="the driver or the toolkit changed, and the specification was not written again"
        if gpu.specification
        else "it was never written, or was written before the driver was loaded",
        type_this=toolkit_errors.REFRESH if refreshes else toolkit_errors.GENERATE,
    )
