"""The machines the locks are for: which packages each needs, and which wheel pip takes there."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PYTHONS = ("3.11", "3.12", "3.13")
BELOW = "3.14"  # the first Python that is not a target
MACHINES = ("x86_64", "aarch64")
# torch's own floor (manylinux_2_28): a wheel that needs a newer glibc is not taken, not even
# where the machine has it, or machines would differ.
GLIBC_MINOR = 28
OLDEST_PATCH, NEWEST_PATCH = 2, 99  # Debian 12 has Python 3.11.2

Target = tuple[str, str]  # (Python's minor version, machine)
TARGETS: tuple[Target, ...] = tuple(itertools.product(PYTHONS, MACHINES))

LEGACY_MANYLINUX = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600


def environments() -> list[str]:
    """Return the targets as the markers uv restricts a universal resolution to."""
    python = f"python_full_version < '{BELOW}' and implementation_name == 'cpython'"
    linux = f"{python} and sys_platform == 'linux'"
    return [f"{linux} and platform_machine == '{machine}'" for machine in MACHINES]


def applies(text: str, target: Target) -> bool:
    """Tell whether a marker holds at a target.

    Raises:
        ValueError: That depends on the patch version of Python, which no line here can say.
    """
    python, machine = target
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_version": python,
        "sys_platform": "linux",
    }
    patches = [f"{python}.{patch}" for patch in (OLDEST_PATCH, NEWEST_PATCH)]
    marker = Marker(text)
    answers = {marker.evaluate({**environment, "python_full_version": full}) for full in patches}
    if len(answers) > 1:
        raise ValueError(f"splits Python {python}: {text}")
    return answers.pop()


def shortest_marker(targets: list[Target]) -> str:
    """Return the marker that holds at exactly these targets, with its semicolon; "" for all.

    Raises:
        ValueError: They are not one range of Pythons on every machine.
    """
    for low, high in itertools.combinations(range(len(PYTHONS) + 1), 2):
        if targets == list(itertools.product(PYTHONS[low:high], MACHINES)):
            parts = [f'python_version >= "{PYTHONS[low]}"'] if low else []
            parts += [f'python_version < "{PYTHONS[high]}"'] if high < len(PYTHONS) else []
            return f" ; {' and '.join(parts)}" if parts else ""
    raise ValueError(f"no simple marker for {targets}")


def best_wheel(files: Iterable[str], target: Target) -> str:
    """Return the file that pip takes at a target: the one with the most specific tag.

    Raises:
        LookupError: None fits, so the package would have to be built there.
    """
    ranks = {tag: rank for rank, tag in enumerate(tags(target))}
    fits = {}
    for file in files:
        _, _, build, file_tags = parse_wheel_filename(file)
        if rank := [ranks[tag] for tag in file_tags if tag in ranks]:
            fits[file] = (-min(rank), build)
    if not fits:
        raise LookupError(f"no wheel for {target} among {sorted(files)}")
    return max(fits, key=lambda file: fits[file])


def tags(target: Target) -> Iterator[Tag]:
    """Yield the wheel tags of a target, best first, as pip orders them."""
    python, machine = target
    version = tuple(int(part) for part in python.split("."))
    platforms = []
    for minor in range(GLIBC_MINOR, 4, -1):
        platforms.append(f"manylinux_2_{minor}_{machine}")
        if minor in LEGACY_MANYLINUX:
            platforms.append(f"{LEGACY_MANYLINUX[minor]}_{machine}")
    interpreter = f"cp{python.replace('.', '')}"
    yield from cpython_tags(version, platforms=platforms)
    yield from compatible_tags(version, interpreter=interpreter, platforms=platforms)
