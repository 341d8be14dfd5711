# /// script
# requires-python = ">=3.11"
# dependencies = ["packaging==26.3"]
# ///
"""Write the hash-locked requirement files beside this script anew from their `.in` files.

    uv run --script images/locks/relock.py            # write the lock files
    uv run --script images/locks/relock.py --check    # write nothing, exit 1 if one would change

uv resolves. Of every wheel uv names, this script keeps the one that pip takes at each target of
targets.py. So two machines of one kind install the same bytes, and a package without a wheel for
one of the targets fails here, not on that machine.

README.md tells how to bump.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from targets import (
    GLIBC_MINOR,
    MACHINES,
    PYTHONS,
    TARGETS,
    applies,
    best_wheel,
    environments,
    shortest_marker,
)

HERE = Path(__file__).resolve().parent

# What was published after this moment does not exist for the resolver: running this twice, or
# next year, gives the same files.
EXCLUDE_NEWER = "2026-11-23T00:00:00Z"

HEADER = f"""\
# Written by relock.py from {{name}}.in: do not edit. README.md: how to install, how to bump.
# Wheels only, for Linux with glibc >= 2.{GLIBC_MINOR}, {" and ".join(MACHINES)},
# and CPython {", ".join(PYTHONS)}.
"""

Lock = dict[str, str]  # name of a distribution -> its requirement, with marker and hashes


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` only say which of them would change."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    lab = resolve("lab", excludes="torch")
    locks = {
        "lab": lab,
        "test": without(lab, resolve("test", constraints=lab)),
        "torch-cuda": without(lab, resolve("torch-cuda", constraints=lab)),
        "torch-cpu": torch_cpu(),
    }
    changed = [name for name, lock in locks.items() if replace(name, lock, write=not arguments)]
    sys.stdout.write("".join(f"{name}.lock: changed\n" for name in changed) or "no change\n")
    return int(bool(arguments and changed))


def resolve(name: str, excludes: str = "", constraints: Lock | None = None) -> Lock:
    """Resolve `name`.in with uv, for all targets at once.

    Args:
        name: The file's name without its suffix.
        excludes: A package to leave out, together with all that only it needs.
        constraints: Versions to stay with.
    """
    pins = [requirement.split(" \\\n")[0] for requirement in (constraints or {}).values()]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        # uv takes `environments` from a pyproject.toml only.
        (work / "pyproject.toml").write_text(f"[tool.uv]\nenvironments = {environments()}\n")
        (work / "constraints.txt").write_text("\n".join(pins))
        (work / "excludes.txt").write_text(excludes)
        command = [os.environ.get("UV", "uv"), "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", PYTHONS[0], "--exclude-newer", EXCLUDE_NEWER]
        # fewest: one version for all Pythons where there is one, so that numbers agree too.
        command += ["--fork-strategy", "fewest", "--format", "pylock.toml"]
        command += ["--constraints", "constraints.txt", "--excludes", "excludes.txt"]
        command += ["--output-file", "pylock.toml", str(HERE / f"{name}.in")]
        subprocess.run(command, cwd=work, check=True)  # noqa: S603 (no shell, no foreign input)
        packages = tomllib.loads((work / "pylock.toml").read_text())["packages"]
    return {package["name"]: entry(package) for package in packages}


def entry(package: dict[str, Any]) -> str:
    """Turn one package of a pylock.toml (PEP 751) into a requirement with hashes."""
    marker = package.get("marker")
    targets = [target for target in TARGETS if marker is None or applies(marker, target)]
    wheels = {
        wheel["url"].rpartition("/")[2].replace("%2B", "+"): wheel["hashes"]["sha256"]
        for wheel in package.get("wheels", [])
    }
    kept = {best_wheel(wheels, target) for target in targets}
    pin = f"{package['name']}=={package['version']}{shortest_marker(targets)}"
    return hashed(pin, [wheels[file] for file in kept])


def hashed(pin: str, digests: list[str]) -> str:
    """Return a requirement as pip's hash-checking mode reads it."""
    hashes = [f"    --hash=sha256:{digest}" for digest in sorted(digests)]
    return " \\\n".join([pin, *hashes]) + "\n"


def without(lab: Lock, lock: Lock) -> Lock:
    """Leave out what lab.lock has: no package is in two files that are installed together.

    Raises:
        ValueError: The two do not agree on a package.
    """
    if differing := [name for name in lock.keys() & lab.keys() if lock[name] != lab[name]]:
        raise ValueError(f"not as in lab.lock: {sorted(differing)}")
    return {name: requirement for name, requirement in lock.items() if name not in lab}


def torch_cpu() -> Lock:
    """Join torch-cpu.in and the hashes in torch-cpu.sha256; PyTorch's CPU index is not asked.

    Raises:
        LookupError: A target has no wheel there.
        ValueError: A wheel there is of another version, or no target takes it.
    """
    (line,) = facts("torch-cpu.in")
    pin = Requirement(line)
    wheels = {file: digest for digest, file in map(str.split, facts("torch-cpu.sha256"))}
    for file in wheels:
        name, version, _, _ = parse_wheel_filename(file)
        if (name, f"=={version}") != (pin.name, str(pin.specifier)):
            raise ValueError(f"{file} is not {line}")
    if unused := wheels.keys() - {best_wheel(wheels, target) for target in TARGETS}:
        raise ValueError(f"no target takes {sorted(unused)}")
    return {pin.name: hashed(line, list(wheels.values()))}


def facts(file: str) -> list[str]:
    """Return a file's lines that are neither empty nor a comment."""
    return [line for line in (HERE / file).read_text().splitlines() if line and line[0] != "#"]


def replace(name: str, lock: Lock, *, write: bool) -> bool:
    """Return whether `name`.lock is not yet what it should be; write it where `write` is set."""
    path = HERE / f"{name}.lock"
    text = HEADER.format(name=name) + "".join(lock[package] for package in sorted(lock))
    if path.exists() and path.read_text() == text:
        return False
    if write:
        path.write_text(text)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
