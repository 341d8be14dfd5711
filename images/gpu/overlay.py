"""Installs what the lab needs on top of NVIDIA's image; no build ends with another torch.

    overlay.py LOCK IN INSTALLER FOLDER

LOCK is `images/locks/lab.lock`, IN the `lab.in` it was made from, INSTALLER `images/install.sh`. It
is run by the interpreter of a virtual environment that sees the base's distributions too: what the
base has stays where the lab can do with it, and lies there once. FOLDER receives:

- `constraint.txt`: the base's own versions, for a later `pip install` (`PIP_CONSTRAINT`);
- `shadowed.txt`: which of them the lab sees in another version.

README.md: what each refusal means.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from verify.identity import normal, torch_identity

try:  # the copy in the base's pip: a base need not have another
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.version import InvalidVersion, Version
except ModuleNotFoundError:  # the lab's own environment has no pip
    from packaging.requirements import Requirement  # type: ignore[assignment]
    from packaging.version import InvalidVersion, Version  # type: ignore[assignment]

# Built by NVIDIA for its own torch: a wheel of any brings another torch, or breaks on this one.
TORCH_FAMILY = re.compile(
    r"torch|torchvision|torchaudio|torchao|triton|pytorch-triton|flash-attn|xformers"
    r"|nvidia-.*|cuda-.*"
)
# Extensions of the base are compiled against it; the lock may name it, the base's stays.
OF_THE_BASE = frozenset({"numpy"})

Lock = dict[str, tuple[str, str]]  # name -> version and the requirement with its hashes


class Refused(Exception):
    """The overlay would not be what it is to be; the message names what is in the way."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What an interpreter sees.

    Attributes:
        versions: The version of each distribution, by name.
        torch: The identity of the torch that an import would take.
        complaints: What `pip check` says.
    """

    versions: dict[str, str]
    torch: dict[str, str]
    complaints: frozenset[str]


def read_lock(text: str) -> Lock:
    """Return what a lock file names for this machine.

    Raises:
        Refused: it names something of the torch family.
    """
    found: Lock = {}
    for block in re.split(r"\n(?=\S)", text):
        line = re.split(r"\s--hash|\\\n", block)[0].strip()
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            version = str(requirement.specifier).removeprefix("==")
            found[normal(requirement.name)] = (version, block.strip())
    if foreign := sorted(name for name in found if TORCH_FAMILY.fullmatch(name)):
        raise Refused(f"the lock names {', '.join(foreign)}: the base brings its own")
    return found


def choose(lock: Lock, wanted: list[Requirement], base: dict[str, str]) -> set[str]:
    """Return what to install: what the base lacks, or has in a version the lab cannot do with.

    Raises:
        Refused: the base's numpy is one of these.
    """
    unfit = {
        normal(it.name)
        for it in wanted
        if (version := base.get(normal(it.name))) and not it.specifier.contains(version, True)
    }
    return _allowed({name for name in lock if name not in base or name in unfit}, base, "lab.in")


def more(
    complaints: frozenset[str], lock: Lock, chosen: set[str], base: dict[str, str]
) -> set[str]:
    """Return what to install besides, because something that was installed needs it newer.

    Raises:
        Refused: the base's numpy would have to be replaced.
    """
    needed = {it: normal(match[1]) for it in complaints if (match := _NEEDS.search(it))}
    cause = "; ".join(sorted(it for it, name in needed.items() if name in OF_THE_BASE))
    return _allowed((set(needed.values()) & lock.keys()) - chosen, base, cause)


# https://github.com/pypa/pip/blob/main/src/pip/_internal/commands/check.py
_NEEDS = re.compile(r"(?:requires|has requirement) ([A-Za-z0-9._-]+)")


def require_same_torch(before: Seen, after: Seen) -> None:
    """Raise `Refused` unless the same torch would be imported as before."""
    if before.torch != after.torch:
        raise Refused(f"torch was {before.torch}\n         and is now {after.torch}")


def require_no_new_complaint(before: Seen, after: Seen) -> None:
    """Raise `Refused` where `pip check` says what it did not say of the base."""
    if new := sorted(after.complaints - before.complaints):
        raise Refused("pip check says what it did not say of the base:\n" + "\n".join(new))


def constraint(base: dict[str, str], chosen: set[str]) -> str:
    """Return pip's constraint file that keeps the base's versions, but for what lies above them."""
    return "".join(
        f"{name}=={version}\n"
        for name, version in sorted(base.items())
        if name not in chosen and _is_version(version)
    )


def main(lock_file: str, wanted_file: str, installer: str, folder: str) -> None:
    """Install the overlay."""
    lock = read_lock(Path(lock_file).read_text())
    lines = (line.partition("#")[0].strip() for line in Path(wanted_file).read_text().splitlines())
    before = look()
    fresh = choose(lock, [Requirement(line) for line in lines if line], before.versions)
    chosen: set[str] = set()
    while fresh:
        _install(installer, [lock[name][1] for name in sorted(fresh)])
        chosen |= fresh
        after = look()
        fresh = more(after.complaints - before.complaints, lock, chosen, before.versions)
    after = look()
    require_same_torch(before, after)
    require_no_new_complaint(before, after)
    above = sorted(chosen & before.versions.keys())
    shadowed = [f"{name} {before.versions[name]} -> {after.versions[name]}\n" for name in above]
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "constraint.txt").write_text(constraint(before.versions, chosen))
    Path(folder, "shadowed.txt").write_text("".join(shadowed))
    count = f"{len(chosen)} installed, {len(above)} of the base shadowed, torch as it was"
    sys.stdout.write(f"overlay: {count}\n{''.join(shadowed)}")


def look() -> Seen:
    """Return what a fresh start of this interpreter sees."""
    told = json.loads(_run(sys.executable, __file__, "look").stdout)
    checked = _run(sys.executable, "-m", "pip", "check", may_fail=True)
    complaints = frozenset(checked.stdout.splitlines() if checked.returncode else ())
    return Seen(told["versions"], told["torch"], complaints)


def describe() -> dict[str, Any]:
    """Return what this interpreter sees, without `pip check`."""
    versions: dict[str, str] = {}
    for it in importlib.metadata.distributions():
        if name := it.metadata["Name"]:
            versions.setdefault(normal(name), it.version)
    torch = torch_identity()
    if torch is None or torch.distribution is None:
        raise Refused("there is no torch in the base: it is none of NVIDIA's PyTorch images")
    return {"versions": versions, "torch": dataclasses.asdict(torch)}


def _allowed(names: set[str], base: dict[str, str], cause: str) -> set[str]:
    if kept := sorted(names & OF_THE_BASE & base.keys()):
        versions = ", ".join(f"{name} {base[name]}" for name in kept)
        raise Refused(f"the base's {versions} would have to be replaced: {cause}")
    return names


def _install(installer: str, requirements: list[str]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as file:
        file.write("\n".join(requirements) + "\n")
        file.flush()
        # The base's own PIP_CONSTRAINT would hold what is to be shadowed at the base's version.
        environment = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
        command = ["sh", installer, file.name]
        subprocess.run(command, env=environment, check=True)  # noqa: S603


def _run(*command: str, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    pipe = subprocess.PIPE
    return subprocess.run(command, stdout=pipe, text=True, check=not may_fail)  # noqa: S603


def _is_version(text: str) -> bool:
    try:
        return bool(Version(text))
    except InvalidVersion:  # pip would refuse the whole file
        return False


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["look"]:
            sys.stdout.write(json.dumps(describe()))
        else:
            main(*sys.argv[1:])
    except Refused as refusal:
        sys.exit(f"overlay: {refusal}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"overlay: {' '.join(error.cmd)} failed")
