"""An image's manifest: what it is made of, written when it is built, compared ever after.

``python -I -m verify.manifest write ...`` and ``... compare [--manifest FILE]`` (exit code 0:
the same, 1: differences, each on a line of its own, 3: no manifest).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
from pathlib import Path
from typing import Final

import msgspec

from verify import apt, identity, lab_content
from verify.code_hash import code_hash
from verify.differences import Difference, differences
from verify.identity import Distribution, Torch, distributions, torch_identity
from verify.lab.problems import Problem

__all__ = ["HERE", "Difference", "differences", "distributions", "read", "torch_identity"]

SCHEMA: Final = 2
_ROOT: Final = Path(__file__).resolve().parents[1]
HERE: Final = _ROOT / "manifest.json"
"""Where an image has its manifest; elsewhere there is none."""

SETTINGS: Final = (
    "LAB_DTYPE",
    "LAB_ATTENTION",
    "ACCELERATE_MIXED_PRECISION",
    "TRITON_PTXAS_BLACKWELL_PATH",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "BNB_CUDA_VERSION",
)
"""Variables that decide how the lab computes; images/gpu/Dockerfile says why each has its value."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an environment is made of. It holds no time: the same is the same byte by byte.

    Attributes:
        schema: The version of this form.
        target: ``lab`` or ``verifier``.
        variant: ``cpu`` or ``gpu``.
        base: The reference of the image that it was built on.
        digest: The base's digest; empty where it was named without.
        locks: The SHA-256 of each lock file that was installed.
        python: Python's version.
        machine: As ``uname -m`` says it.
        torch: Which torch.
        distributions: Every distribution that its Python sees, by name.
        apt: The version of each of the system's packages.
        labs: A hash of what everybody may see, by folder: labs, and packages that they use.
        assets: A hash of the model, tokenizers and data in the image.
        keys: A hash of checks, solution and misconceptions, by lab; the image `lab` has none.
        code: A hash of the runner's code.
        settings: The variables of `SETTINGS` that are set.
    """

    schema: int
    target: str
    variant: str
    base: str
    digest: str
    locks: dict[str, str]
    python: str
    machine: str
    torch: Torch | None
    distributions: dict[str, Distribution]
    apt: dict[str, str]
    labs: dict[str, str]
    assets: str
    keys: dict[str, str]
    code: str
    settings: dict[str, str]


def observe(labs: Path, keys: Path | None = None, assets: Path | None = None) -> Manifest:
    """Return what this environment is; what only a build knows is left empty.

    Args:
        labs: The folder with the labs.
        keys: The folder with their keys; None: they are not looked at.
        assets: The folder with model, tokenizers and data; None: they are not looked at.
    """
    return Manifest(
        schema=SCHEMA,
        target="",
        variant="",
        base="",
        digest="",
        locks={},
        python=platform.python_version(),
        machine=platform.machine(),
        torch=identity.torch_identity(),
        distributions=identity.distributions(),
        apt=apt.packages(),
        labs=lab_content.public(labs),
        assets=lab_content.everything(assets) if assets else "",
        keys=lab_content.keys(keys) if keys else {},
        code=code_hash(),
        settings={name: os.environ[name] for name in SETTINGS if os.environ.get(name)},
    )


def read(path: Path) -> Manifest:
    """Return the manifest in ``path``.

    Raises:
        Problem: there is none, or one that this code does not know.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise Problem(
            f"There is no manifest at {path}: {error.strerror}.",
            cause="this is no image of the lab; a machine is compared with an image's manifest",
            type_this="invoke image.verify --here",
        ) from error
    except msgspec.MsgspecError as error:
        raise Problem(
            f"The manifest {path} cannot be read: {error}.",
            cause="the image was built from another version of this project",
            type_this="invoke image.build",
        ) from error


def compare_here(expected: Manifest) -> list[Difference]:
    """Return what the environment that this runs in differs in from ``expected``.

    In an image everything counts, and no key may be where there was none; on another machine the
    lab's libraries, torch and the labs: a model trained there may differ in its last bits.

    Raises:
        PermissionError: the keys are for the runner's root alone, and another user asks.
    """
    labs = _ROOT / "labs"
    if HERE.exists():
        return differences(expected, observe(labs, labs, _ROOT / "assets"))
    return differences(expected, observe(labs), whole=False)


def _write(told: argparse.Namespace) -> int:
    made = msgspec.structs.replace(
        observe(told.labs, told.keys, told.assets),
        target=told.target,
        variant=told.variant,
        base=told.base,
        digest=told.base.partition("@")[2],
        locks={
            name: hashlib.sha256((told.locks / name).read_bytes()).hexdigest()
            for name in ("lab.lock", f"torch-{told.variant}.lock")
            if (told.locks / name).exists()
        },
    )
    told.output.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
    os.utime(told.output, (0, 0))  # as images/sort-labs.sh does: a layer holds no time of its own
    return 0


def _compare(told: argparse.Namespace) -> int:
    try:
        expected = read(told.manifest)
        found = compare_here(expected)
    except Problem as problem:
        return _say(problem)
    except PermissionError as error:
        cause = "the keys of the labs are for the runner's root alone"
        return _say(Problem(f"{error.filename} may not be read.", cause=cause))
    for difference in found:
        sys.stdout.write(f"{difference}\n")
    if not found:
        torch = expected.torch.distribution if expected.torch else "none"
        same = "Identical" if HERE.exists() else "The same versions, torch and labs"
        count = len(expected.distributions)
        sys.stdout.write(
            f"{same}: torch {torch}, {count} distributions, {len(expected.labs)} labs\n"
        )
    return int(bool(found))


def _say(problem: Problem) -> int:
    sys.stderr.write("\n".join(problem.lines()) + "\n")
    return problem.code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="verify.manifest", description=__doc__)
    commands = parser.add_subparsers(required=True)
    write = commands.add_parser("write", help="describe this environment")
    write.set_defaults(act=_write)
    write.add_argument("--target", choices=("lab", "verifier"), required=True)
    write.add_argument("--variant", choices=("cpu", "gpu"), required=True)
    write.add_argument("--base", required=True, help="the base image's reference")
    write.add_argument("--labs", type=Path, required=True)
    write.add_argument("--keys", type=Path, help="where the labs' keys are, for the verifier")
    write.add_argument("--assets", type=Path, help="where model, tokenizers and data are")
    write.add_argument("--locks", type=Path, required=True, help="the folder with the lock files")
    write.add_argument("--output", type=Path, required=True)
    compare = commands.add_parser("compare", help="compare this environment with a manifest")
    compare.set_defaults(act=_compare)
    compare.add_argument("--manifest", type=Path, default=HERE)
    return parser


def main(words: list[str]) -> int:
    """Do what ``words`` say; return the exit code."""
    told = _parser().parse_args(words)
    return int(told.act(told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
