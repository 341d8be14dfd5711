"""Which lock files make the environment here, and whether it is made from them already."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verify.lab.layout import Layout

# Where the CPU build of torch comes from on a machine whose own package index lacks it:
# the local version `+cpu` is on PyTorch's index only.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

LAB = "lab.lock"
TEST = "test.lock"

_DRIVER_FILES = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"))


@dataclasses.dataclass(frozen=True)
class Variant:
    """Which build of torch is taken, why, and how much disk an environment with it needs."""

    name: str
    why: str
    bytes_needed: int

    @property
    def torch_lock(self) -> str:
        """The lock file with that build of torch."""
        return torch_lock(self.name)


@dataclasses.dataclass(frozen=True)
class Stamp:
    """What an environment was made from; written when it is whole.

    Attributes:
        venv: Where it is: its scripts name their interpreter by path, so it cannot be moved.
        python: ``major.minor`` of its Python.
        variant: ``cpu`` or ``cuda``.
        locks: The hash of each lock file installed.
    """

    venv: str
    python: str
    variant: str
    locks: dict[str, str]

    def lacks(self, wanted: Stamp) -> list[str]:
        """Return the lock files of ``wanted`` that are not installed as they now are."""
        return [lock for lock, text in wanted.locks.items() if self.locks.get(lock) != text]


def torch_lock(variant: str) -> str:
    """Return the lock file with the build of torch for ``cpu`` or ``cuda``."""
    return f"torch-{variant}.lock"


def pin(layout: Layout, name: str) -> str | None:
    """Return the version of a library that the locks of this machine's variant want."""
    wanted = [find_variant(layout).torch_lock, LAB]
    pins = dict(it.split("==", 1) for lock in wanted for it in packages(layout.locks / lock))
    return pins.get(name)


def find_variant(layout: Layout) -> Variant:
    """Return the variant for this machine: what was asked for, else what is here."""
    asked = read_asked(layout)
    if asked == "gpu" or (asked is None and _has_nvidia_gpu()):
        return Variant("cuda", "asked for" if asked else "an NVIDIA GPU is here", 12 * 1024**3)
    return Variant("cpu", "asked for" if asked else "no NVIDIA GPU was found", 3 * 1024**3)


def ask_for(layout: Layout, variant: str | None) -> None:
    """Remember that the local environment is to be ``cpu`` or ``gpu``; None: as the machine is."""
    if variant is None:
        layout.asked_variant.unlink(missing_ok=True)
    else:
        layout.asked_variant.write_text(variant)


def read_asked(layout: Layout) -> str | None:
    """Return the variant that was asked for, or None."""
    try:
        return layout.asked_variant.read_text().strip() or None
    except OSError:
        return None


def wanted_stamp(layout: Layout, variant: Variant, python: str, *, tests: bool) -> Stamp:
    """Return the stamp that the environment should have."""
    names = [variant.torch_lock, LAB, *([TEST] if tests else [])]
    hashes = {n: hashlib.sha256((layout.locks / n).read_bytes()).hexdigest() for n in names}
    return Stamp(str(layout.venv.resolve()), python, variant.name, hashes)


def read_stamp(file: Path) -> Stamp | None:
    """Return the stamp in ``file``, or None when there is none."""
    try:
        return Stamp(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_stamp(file: Path, stamp: Stamp) -> None:
    """Write the stamp."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(dataclasses.asdict(stamp), indent=2))
    new.replace(file)


def packages(lock: Path) -> list[str]:
    """Return the pinned packages of ``lock`` as ``name==version``."""
    lines = lock.read_text().splitlines()
    return [line.split()[0] for line in lines if "==" in line and line[:1] not in ("#", " ")]


def _has_nvidia_gpu() -> bool:
    if any(file.exists() for file in _DRIVER_FILES):
        return True
    tool = shutil.which("nvidia-smi")  # the only sign of a GPU under WSL
    if tool is None:
        return False
    try:
        answer = subprocess.run([tool, "-L"], capture_output=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.returncode == 0 and b"GPU" in answer.stdout
