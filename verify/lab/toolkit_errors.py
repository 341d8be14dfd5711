"""What Docker's and NVIDIA's words mean when a container does not start: cause and fix for each.

`tests/lab/recorded/` holds the words, with where they are from. One known complaint is left out:
"groups: cannot find name for group ID 993" is never why something failed
(https://github.com/NVIDIA/nvidia-container-toolkit/issues/1909).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from verify.lab import engine_troubles, ports
from verify.lab.problems import Problem

RESTART: Final = "sudo systemctl restart docker"
CONFIGURE: Final = f"sudo nvidia-ctk runtime configure --runtime=docker && {RESTART}"
SWITCH_CDI_ON: Final = (
    f"sudo nvidia-ctk runtime configure --runtime=docker --cdi.enabled && {RESTART}"
)
INSTALL: Final = f"sudo apt install nvidia-container-toolkit && {CONFIGURE}"
INSTALL_GUIDE: Final = (
    "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
)
REFRESH: Final = "sudo systemctl restart nvidia-cdi-refresh && nvidia-ctk cdi list"
GENERATE: Final = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
UP: Final = "invoke lab.up"


@dataclasses.dataclass(frozen=True)
class Known:
    """A failure that is known by its words; ``{0}`` in a sentence is what the words say there."""

    words: re.Pattern[str]
    happened: str
    cause: str
    type_this: str


def _known(words: str, happened: str, cause: str, type_this: str) -> Known:
    return Known(re.compile(words, re.IGNORECASE), happened, cause, type_this)


# In the order in which they are looked for: the more telling words first.
TABLE: Final = (
    _known(
        r'could not select device driver "cdi"',
        "Docker does not hand out CDI devices, and the GPU is one.",
        "the engine is older than 28.2, where that has to be switched on",
        SWITCH_CDI_ON,
    ),
    _known(
        r'error gathering device information while adding custom device "nvidia\.com/gpu',
        "Docker takes the GPU's CDI name for a file.",
        "Docker Compose or the engine is too old for CDI devices",
        f"{SWITCH_CDI_ON}  # and upgrade Compose: https://docs.docker.com/compose/install",
    ),
    _known(
        r"could not select device driver (?:\S+ )?with capabilities: \[\[gpu\]\]",
        "Docker has no way to hand a GPU to a container.",
        "NVIDIA's container toolkit is not installed, Docker was not restarted since, or this "
        f"Docker is a snap: {INSTALL_GUIDE}",
        INSTALL,
    ),
    _known(  # engines from 29.2 on
        r"failed to discover GPU vendor from CDI",
        "Docker knows of no GPU.",
        f"NVIDIA's container toolkit is not installed, or wrote no specification: {INSTALL_GUIDE}",
        f"sudo apt install nvidia-container-toolkit && {GENERATE}",
    ),
    _known(
        r"unresolvable CDI devices ((?:[\w.-]+/[\w.-]+=[\w.:-]*\w,? ?)+)",
        "Docker does not know the GPU: {0}.",
        "the CDI specification is missing, is not valid for this engine, or was written before "
        "the driver was loaded",
        REFRESH,
    ),
    _known(
        r'failed to stat CDI host device "([^"]+)"'
        r'|error mounting "([^"]*(?:nvidia|libcuda)[^"]*)" to rootfs.*no such file',
        "The CDI specification of the GPU is out of date: {0} is gone.",
        "the driver or the display was changed after it was written",
        REFRESH,
    ),
    _known(
        r"fork/exec (\S*nvidia\S*): no such file"
        r'|exec: "(nvidia-container-runtime)": executable file not found',
        "{0} is gone, and Docker still counts on it.",
        "NVIDIA's container toolkit was removed or moved, and its traces were not",
        INSTALL,
    ),
    _known(
        r"unknown (?:or invalid runtime name:|runtime specified) nvidia",
        "Docker does not know the runtime nvidia.",
        "NVIDIA's container toolkit is not installed, or Docker was not told of it: "
        + INSTALL_GUIDE,
        INSTALL,
    ),
    _known(
        r"driver/library version mismatch",
        "The NVIDIA driver that runs and the one on disk are two versions.",
        "the driver was upgraded, and the machine was not started again since",
        "sudo reboot",
    ),
    _known(
        r"nvml error: driver not loaded|couldn't communicate with the NVIDIA driver",
        "The NVIDIA driver is not loaded.",
        "it is not installed, or does not fit the kernel that runs now",
        "sudo modprobe nvidia && nvidia-smi  # if that fails: sudo reboot, or install it again",
    ),
    _known(
        r"no devices were found",
        "The NVIDIA driver runs, and finds no GPU that answers.",
        "the GPU fell off the bus, or this driver does not know it",
        "sudo dmesg | grep -iE 'nvrm|xid'  # which says why; then: sudo reboot",
    ),
    _known(
        r"GPU access blocked by the operating system",
        "Windows does not let this Linux have the GPU.",
        "its driver was upgraded or stopped below a running WSL, or is older than this WSL",
        "wsl.exe --shutdown  # then open it again; and: wsl.exe --update",
    ),
    _known(
        r"libnvidia-ml\.so\.1: cannot open shared object file",
        "The NVIDIA driver's libraries are not where the container toolkit looks.",
        "only the driver's kernel part is installed; or root= in "
        "/etc/nvidia-container-runtime/config.toml names another place; or Docker Desktop runs "
        "without integration into this WSL",
        "nvidia-smi && grep root /etc/nvidia-container-runtime/config.toml",
    ),
    _known(
        r"failed to initialize NVML: unknown error",
        "The container has lost the GPU.",
        "systemd was reloaded on the host, which takes the GPU from containers that did not get "
        "it by CDI",
        f"invoke lab.down && {UP}  # and for good: {SWITCH_CDI_ON}",
    ),
    _known(
        r"(?:NVML|nvml error): insufficient permissions",
        "The container may not use the GPU.",
        "SELinux forbids containers the devices of the host",
        f"sudo setsebool -P container_use_devices on && {UP}",
    ),
    _known(
        r"unsatisfied condition: (cuda ?>= ?[\d.]*\d)",
        "The NVIDIA driver is too old for the image, which asks for {0}.",
        "the image is newer than the driver",
        f"nvidia-smi  # upgrade the driver to R580 or newer, or: {UP} --variant cpu",
    ),
    _known(
        r"conflicting values set for option signed-by regarding source (\S*nvidia\S*)",
        "apt knows NVIDIA's packages twice, with two keys: {0}.",
        "an older guide left a list of its own behind",
        "grep -l nvidia.github.io /etc/apt/sources.list.d/*"
        "  # keep nvidia-container-toolkit.list, delete the others",
    ),
    _known(
        r"healthcheck\.start_interval as feature require",
        "The Docker engine is too old: the lab's containers need 25.0.",
        "upgrade it: https://docs.docker.com/engine/install",
        f"{UP} --runtime local  # needs no Docker",
    ),
    _known(
        r"no such image: (\S*\w)|pull access denied for ([\w./-]+)",
        "An image is not here: {0}.",
        "it was not built, or was removed since",
        f"invoke image.build && {UP}",
    ),
    _known(
        r'response from daemon: (?:get|head) "(https://[^/"]+)/v2/',
        "An image is not here, and Docker asked {0} for it in vain.",
        "it was not built, or was removed since; no registry has it",
        f"invoke image.build && {UP}",
    ),
    _known(
        r"no space left on device|disk quota exceeded",
        "The disk that Docker keeps its data on is full.",
        "images, containers and what builds keep for the next time fill it",
        "docker system df  # then what is not needed: docker builder prune, docker image prune",
    ),
)

_PORT_TAKEN: Final = re.compile(
    r"Bind for \S+?:(\d+) failed: port is already allocated"
    r"|listen tcp[46]? \S+?:(\d+): bind: address already in use"
    r"|failed to bind host port (?:for )?[\d.]+:(\d+)"  # engines from 28 on
)
_NOT_ALLOWED: Final = re.compile(r"permission denied while trying to connect to the [Dd]ocker")
_NOT_RUNNING: Final = re.compile(
    r"(?:Cannot connect to the Docker daemon|failed to connect to the docker API) at (\S+?)[.;] "
)


def diagnose(text: str) -> Problem | None:
    """Return the problem that ``text`` tells of, or None when it tells of none that is known."""
    if taken := _PORT_TAKEN.search(text):
        return ports.in_use(int(taken[1] or taken[2] or taken[3]))
    if _NOT_ALLOWED.search(text):
        return engine_troubles.not_allowed()
    if gone := _NOT_RUNNING.search(text):
        return engine_troubles.not_running(gone[1])
    for known in TABLE:
        if found := known.words.search(text):
            said = next((group.strip() for group in found.groups() if group), "")
            return Problem(
                known.happened.format(said), cause=known.cause, type_this=known.type_this
            )
    return None
