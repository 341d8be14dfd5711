"""The GPU of this machine as its system shows it: card, driver, NVIDIA's container toolkit."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from verify.lab import cdi, smi, toolkit_errors
from verify.lab.engine_troubles import numbers
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DRIVER_FLOOR: Final = 580
"""CUDA 13, of which images and wheels are, runs on this driver and on newer ones
(https://docs.nvidia.com/deploy/cuda-compatibility)."""

_SECONDS: Final = 10.0  # nvidia-smi wakes the driver where nothing keeps it awake
_NVIDIA: Final = "0x10de"  # https://pci-ids.ucw.cz/read/PC/10de
_DISPLAYS: Final = "0x03"  # and 3D controllers: https://pci-ids.ucw.cz/read/PD/03
_UPGRADE: Final = (
    "sudo apt install nvidia-driver-580-open && sudo reboot"
    "  # Ubuntu; elsewhere: https://www.nvidia.com/drivers"
)


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command said.

    Attributes:
        code: How it ended; None: it is not installed, or did not end.
        text: What it printed, its errors too; why there is no code; empty: it is not installed.
    """

    code: int | None
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What this machine shows of NVIDIA's GPUs.

    Attributes:
        card: Whether there is one, driver or not.
        names: What the driver calls them.
        driver: The version of the driver that is loaded, or None.
        told: What nvidia-smi says of each.
        trouble: What nvidia-smi said where it failed on a machine with a GPU.
        wsl: Whether the driver is that of a Windows below us.
        toolkit: The version of NVIDIA's container toolkit, or None.
        listed: The CDI devices that the toolkit lists.
        specifications: What the files of CDI say, those that go first last.
    """

    card: bool = False
    names: tuple[str, ...] = ()
    driver: str | None = None
    told: smi.Told = dataclasses.field(default_factory=smi.Told)
    trouble: str = ""
    wsl: bool = False
    toolkit: str | None = None
    listed: frozenset[str] = frozenset()
    specifications: tuple[cdi.Specification, ...] = ()

    @property
    def name(self) -> str:
        """What to call it."""
        return self.names[0] if self.names else "an NVIDIA GPU"

    @property
    def specification(self) -> cdi.Specification | None:
        """The one that names the device of all GPUs, if any does."""
        return next((it for it in reversed(self.specifications) if cdi.ALL in it.devices), None)


def look(root: Path = Path("/"), said: Callable[[Sequence[str]], Said] | None = None) -> Gpu:
    """Return what the machine shows.

    Args:
        root: Where its file system begins.
        said: Runs a command and returns what it said; without it: on this machine.
    """
    said = said or _said
    wsl = (root / "dev/dxg").exists()
    loaded = driver_version(_text(root / "proc/driver/nvidia/version"))
    if not (wsl or loaded or _has_card(root)):
        return Gpu()
    answer = said(smi.QUERY) if wsl or loaded else Said(None)
    told = smi.read(answer.text)
    if wsl and answer == Said(None):
        return Gpu()  # a Windows without such a GPU has that device too, but not this tool
    toolkit = toolkit_version(said(["nvidia-ctk", "--version"]).text)
    return Gpu(
        card=True,
        names=tuple(report.name for report in told.reports),
        driver=loaded or told.driver,
        told=told,
        trouble=answer.text.strip() if answer.code != 0 else "",
        wsl=wsl,
        toolkit=toolkit,
        listed=listed(said(["nvidia-ctk", "cdi", "list"]).text) if toolkit else frozenset(),
        specifications=cdi.find(root),
    )


def driver_version(text: str) -> str | None:
    """Return the version in the text of /proc/driver/nvidia/version, or None."""
    found = re.search(r"NVRM version:.*?Kernel Module\b.*?\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else None


def toolkit_version(text: str) -> str | None:
    """Return the version in what ``nvidia-ctk --version`` printed, or None."""
    found = re.search(r"CLI version (\d+\.\d+\.\d+\S*)", text)
    return found[1] if found else None


def listed(text: str) -> frozenset[str]:
    """Return the GPUs in what ``nvidia-ctk cdi list`` printed."""
    return frozenset(line for line in text.split() if line.startswith(f"{cdi.KIND}="))


def driver_problem(gpu: Gpu) -> Problem | None:
    """Return why the driver is of no use for the lab, or None."""
    if not gpu.card:
        return None
    if gpu.trouble and not gpu.told.reports:
        return toolkit_errors.diagnose(gpu.trouble) or Problem(
            f"nvidia-smi fails: {gpu.trouble.splitlines()[0]}",
            cause="the driver is not whole, or the GPU is not well",
            type_this="nvidia-smi  # on its own, and: sudo dmesg | grep -i nvrm",
        )
    if gpu.driver is None:
        return Problem(
            "There is an NVIDIA GPU in this machine, but its driver is not loaded.",
            cause="it is not installed, or does not fit the kernel that runs now",
            type_this="sudo modprobe nvidia  # and where there is none: " + _UPGRADE,
        )
    if numbers(gpu.driver)[0] < DRIVER_FLOOR:
        return Problem(
            f"The NVIDIA driver {gpu.driver} is too old: the lab's CUDA 13 needs {DRIVER_FLOOR}.",
            cause="Windows' driver, which WSL uses, was not upgraded"
            if gpu.wsl
            else "it was not upgraded since an older CUDA",
            type_this="wsl --update  # after the driver of https://www.nvidia.com/drivers"
            if gpu.wsl
            else _UPGRADE,
        )
    return None


def _has_card(root: Path) -> bool:
    """Return whether one is plugged in (https://docs.kernel.org/PCI/sysfs-pci.html)."""
    return any(
        _text(device / "vendor").strip() == _NVIDIA
        and _text(device / "class").startswith(_DISPLAYS)
        for device in (root / "sys/bus/pci/devices").glob("*")
    )


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _said(command: Sequence[str]) -> Said:
    tool = shutil.which(command[0], path=None) or shutil.which(command[0], path="/usr/lib/wsl/lib")
    if tool is None:
        return Said(None)
    try:
        done = subprocess.run(  # noqa: S603 (a known tool, no shell)
            [tool, *command[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Said(None, f"it did not answer within {_SECONDS:.0f} s")
    except OSError as error:
        return Said(None, str(error))
    return Said(done.returncode, done.stdout)
