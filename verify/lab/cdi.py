"""Specifications of the Container Device Interface: the devices they name, and what is gone since.

https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

import msgspec

KIND: Final = "nvidia.com/gpu"
ALL: Final = f"{KIND}=all"
FOLDERS: Final = ("/etc/cdi", "/var/run/cdi")
"""Where engines look unless told otherwise; what is in a later one goes first."""


@dataclasses.dataclass(frozen=True)
class Specification:
    """What one file says of GPUs.

    Attributes:
        file: Which.
        devices: The devices that it names (``nvidia.com/gpu=all``).
        gone: The files of this machine that it hands over and that are not there.
        trouble: Why it cannot be read; empty when it can.
    """

    file: Path
    devices: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    trouble: str = ""


class _Node(msgspec.Struct):
    path: str
    host: str = msgspec.field(name="hostPath", default="")


class _Mount(msgspec.Struct):
    host: str = msgspec.field(name="hostPath", default="")


class _Hook(msgspec.Struct):
    path: str = ""


class _Edits(msgspec.Struct):
    nodes: list[_Node] | None = msgspec.field(name="deviceNodes", default=None)
    mounts: list[_Mount] | None = None
    hooks: list[_Hook] | None = None

    def files(self) -> list[str]:
        """Return the files of this machine that a container is given."""
        nodes = [node.host or node.path for node in self.nodes or ()]
        mounts = [mount.host for mount in self.mounts or ()]
        return [*nodes, *mounts, *(hook.path for hook in self.hooks or ())]


class _Device(msgspec.Struct):
    name: str
    edits: _Edits = msgspec.field(name="containerEdits", default_factory=_Edits)


class _Whole(msgspec.Struct):
    kind: str
    devices: list[_Device] | None = None
    edits: _Edits = msgspec.field(name="containerEdits", default_factory=_Edits)


def find(root: Path = Path("/")) -> tuple[Specification, ...]:
    """Return what the files below ``root`` say of GPUs, those that go first last."""
    found = []
    for folder in FOLDERS:
        place = root / folder.lstrip("/")
        for file in sorted([*place.glob("*.yaml"), *place.glob("*.json")]):
            if specification := read(file, root):
                found.append(specification)
    return tuple(found)


def read(file: Path, root: Path = Path("/")) -> Specification | None:
    """Return what ``file`` says of GPUs; None when it is of another kind of device.

    Device files, libraries and hooks are looked for below ``root``.
    """
    try:
        whole = msgspec.yaml.decode(file.read_bytes(), type=_Whole)  # JSON is YAML too
    except (OSError, msgspec.DecodeError, ImportError) as error:
        return Specification(file, trouble=str(error).partition("\n")[0])
    if whole.kind != KIND:
        return None
    devices = whole.devices or []
    files = whole.edits.files() + [name for device in devices for name in device.edits.files()]
    gone = [name for name in dict.fromkeys(files) if _is_gone(root / name.lstrip("/"))]
    return Specification(file, tuple(f"{KIND}={it.name}" for it in devices), tuple(gone))


def _is_gone(file: Path) -> bool:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # in a folder that is not ours to look into
    return False
