"""The installed libraries against the chosen ones: of the image's manifest, or the lock files."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import msgspec
import torch
from packaging.requirements import Requirement

from verify.differences import Difference, differences
from verify.gpu_nodes import torch_is_for_cpu
from verify.identity import (
    Distribution,
    Torch,
    distribution,
    distributions,
    normal,
    torch_identity,
)
from verify.lab import damage, locks
from verify.lab.layout import Layout
from verify.machine import Fault
from verify.manifest import Manifest, read

_RESTART = "invoke lab.down && invoke lab.up"
MISSING = "missing"
_SHOWN = 6  # differences that are named; the first says enough, and the rest has the same cause
_PIN = re.compile(r"\s+(?:\\|--hash)")  # what ends a pin: the hashes follow
_CPYTHON = re.compile(r"^# .*CPython ([\d., ]+\d)\.?$", re.MULTILINE)


def compare(layout: Layout) -> str:
    """Return what was compared; raise `Fault` with each library that is not as it was chosen."""
    if layout.manifest.exists():
        expected = read(layout.manifest)
        _require(_by_manifest(expected), "the image's manifest", _rebuild(expected))
        return f"Python {expected.python}, {len(expected.distributions)} libraries as in the image"
    pins = locked(layout.locks, _torch_lock(layout))
    _require([*_python(layout.locks), *_by_locks(pins)], "the lock files", damage.MEND)
    return f"Python {platform.python_version()}, {len(pins)} libraries as locked"


def compare_torch(layout: Layout) -> str:
    """Return which torch there is; raise `Fault` if another was chosen, or is in memory."""
    found = torch_identity()
    loaded = Path(torch.__file__).parent
    if found is None or Path(found.location).resolve() != loaded.resolve():
        raise Fault(
            f"The runner has loaded torch from {loaded}, and Python would now find "
            f"{found.location if found else 'none'}.",
            "libraries were installed or removed while the runner was up",
            _RESTART,
        )
    if layout.manifest.exists():
        expected = read(layout.manifest)
        now = msgspec.structs.replace(expected, torch=found)
        _require(differences(expected, now), "the image's manifest", _rebuild(expected))
    else:
        _require_locked(found, layout)
        _require_whole(layout)
    if found.module != torch.__version__:
        raise Fault(
            f"The runner has loaded torch {torch.__version__}, and {found.module} is installed.",
            "torch was installed anew while the runner was up",
            _RESTART,
        )
    return f"torch {found.distribution}, {f'CUDA {found.cuda}' if found.cuda else 'for the CPU'}"


def mend(layout: Layout) -> str:
    """Return what to type for libraries as they were chosen."""
    return _rebuild(read(layout.manifest)) if layout.manifest.exists() else damage.MEND


def locked(folder: Path, torch_lock: str) -> dict[str, str]:
    """Return the version of each library that the lock files in ``folder`` want on this Python."""
    found = {}
    for name in (torch_lock, locks.LAB):
        for line in (folder / name).read_text("utf-8").splitlines():
            if "==" not in line or line[0] in "# ":
                continue
            wanted = Requirement(_PIN.split(line)[0])
            if wanted.marker is None or wanted.marker.evaluate():
                found[normal(wanted.name)] = next(iter(wanted.specifier)).version
    return found


def _by_manifest(expected: Manifest) -> list[Difference]:
    now = msgspec.structs.replace(
        expected,
        python=platform.python_version(),
        machine=platform.machine(),
        distributions=distributions(),
    )
    return differences(expected, now)


def _torch_lock(layout: Layout) -> str:
    """Return the lock that the libraries are compared with: of the build of torch that is here.

    Where it should be another build, that is for torch's own check to say.
    """
    variant = "cpu" if torch_is_for_cpu() else locks.find_variant(layout).name
    return locks.torch_lock(variant)


def _by_locks(pins: dict[str, str]) -> list[Difference]:
    there = distributions()
    others = {name: version for name, version in pins.items() if name != "torch"}
    found = (_difference(name, there.get(name), version) for name, version in others.items())
    return [it for it in found if it is not None]


def _difference(name: str, there: Distribution | None, version: str) -> Difference | None:
    if there is None:
        return Difference(name, MISSING)
    if there.version != version:
        return Difference(name, f"expected {version}, found {there.version or 'no version'}")
    if there.missing:
        return Difference(name, f"files are {MISSING}, first {there.missing[0]}")
    if not there.record:
        return Difference(name, f"its list of files, RECORD, is {MISSING}")
    return None


def _python(folder: Path) -> list[Difference]:
    """Return the difference, if any, from the Pythons that the lock's first lines name."""
    stated = _CPYTHON.search((folder / locks.LAB).read_text("utf-8"))
    fit = stated[1].replace(" ", "").split(",") if stated else []
    now = platform.python_version()
    if now.rpartition(".")[0] in fit:
        return []
    return [Difference("Python", f"expected {' or '.join(fit)}, found {now}")]


def _require_whole(layout: Layout) -> None:
    """Raise `Fault` if one of torch's files is gone; a base image's may have no list of them."""
    there = distribution("torch")
    gone = _difference("torch", there, there.version if there is not None else "")
    if gone is not None:
        _require([gone], "the lock files", mend(layout))


def _require_locked(found: Torch, layout: Layout) -> None:
    variant = locks.find_variant(layout)
    wanted = locked(layout.locks, variant.torch_lock)["torch"]
    if variant.name == "cuda" and found.cuda is None:
        raise Fault(
            f"torch {found.distribution} is built for the CPU alone, and {variant.why}.",
            "the environment was made before the GPU was there, or torch was installed over",
            damage.MEND,
        )
    if found.distribution != wanted:
        said = f"expected {wanted}, found {found.distribution or 'no version'}"
        _require([Difference("torch", said)], "the lock files", damage.MEND)


def _require(found: list[Difference], source: str, mend: str) -> None:
    if not found:
        return
    named = "; ".join(str(one) for one in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    happened = f"Not as in {source}: {named}{more}."
    lost = all(MISSING in str(one) for one in found)
    cause = "it was deleted, or the disk is failing"
    raise Fault(happened, cause if lost else "something else was installed over it", mend)


def _rebuild(image: Manifest) -> str:
    return f"invoke lab.down && invoke image.build --variant {image.variant} && invoke lab.up"
