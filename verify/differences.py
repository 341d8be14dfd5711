"""What two descriptions of an environment differ in, each difference by name."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verify.identity import Distribution, Torch
    from verify.manifest import Manifest


@dataclasses.dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        name: What differs: a distribution, ``torch``, ``apt libc6``, ``labs/memory``.
        said: In what.
    """

    name: str
    said: str

    def __str__(self) -> str:
        return f"{self.name}: {self.said}"


def differences(expected: Manifest, found: Manifest, *, whole: bool = True) -> list[Difference]:
    """Return what ``found`` differs in from ``expected``.

    Args:
        expected: What the manifest says.
        found: What is there.
        whole: ``found`` is to be that image. Otherwise it is another machine, and only the lab's
            own libraries, torch and the labs are compared: what the image's base brings, its apt
            packages, its settings and its paths are its own business.
    """
    found_differences = [
        *_of_values("", _platform(expected, whole), _platform(found, whole)),
        *_of_torch(expected.torch, found.torch, whole),
        *_of_distributions(expected.distributions, found.distributions, whole),
        *_of_hashes("labs/", expected.labs, found.labs, "changed"),
    ]
    if whole:
        found_differences += [
            *_of_values("apt ", expected.apt, found.apt, "not in the manifest"),
            *_of_values("setting ", expected.settings, found.settings, "not to be set"),
            *_of_hashes("", {"assets": expected.assets}, {"assets": found.assets}, "changed"),
            *_of_hashes("keys of labs/", expected.keys, found.keys, "changed"),
            *_of_hashes("", {"code": expected.code}, {"code": found.code}, "changed"),
        ]
    return found_differences


def _platform(it: Manifest, whole: bool) -> dict[str, str]:
    """Return Python and machine; another machine may have another patch of Python."""
    python = it.python if whole else ".".join(it.python.split(".")[:2])
    return {"Python": python, "machine": it.machine}


def _of_torch(expected: Torch | None, found: Torch | None, whole: bool) -> Iterator[Difference]:
    if expected is None or found is None:
        if expected != found:
            yield Difference("torch", "missing" if expected else "not in the manifest")
        return
    yield from _of_values(
        "", {"torch": str(expected.distribution)}, {"torch": str(found.distribution)}
    )
    told = {"torch's own version": "module", "torch's CUDA version": "cuda"}
    told |= {"torch's location": "location"} if whole else {}
    for name, field in told.items():
        before, now = (str(getattr(it, field)) for it in (expected, found))
        yield from _of_values("", {name: before}, {name: now})
    if expected.record != found.record and expected.distribution == found.distribution:
        yield Difference("torch", "other files of the same version")


def _of_distributions(
    expected: Mapping[str, Distribution], found: Mapping[str, Distribution], whole: bool
) -> Iterator[Difference]:
    for name, wanted in expected.items():
        if not (whole or wanted.own or name == "torch"):
            continue
        there = found.get(name)
        if there is None:
            yield Difference(name, "missing")
            continue
        if name != "torch":  # of which more is known than this
            if there.version != wanted.version:
                yield Difference(name, f"expected {wanted.version}, found {there.version}")
            elif there.record != wanted.record:
                yield Difference(name, "other files of the same version")
        if lost := [path for path in there.missing if path not in wanted.missing]:
            files = "1 file" if len(lost) == 1 else f"{len(lost)} files or folders"
            yield Difference(name, f"{files} missing, first {lost[0]}")
    if whole:
        for name in found.keys() - expected.keys():
            yield Difference(name, "not in the manifest")


def _of_values(
    prefix: str,
    expected: Mapping[str, str],
    found: Mapping[str, str],
    surplus: str = "not in the manifest",
) -> Iterator[Difference]:
    for name in sorted(expected.keys() | found.keys()):
        wanted, there = expected.get(name), found.get(name)
        if there is None:
            yield Difference(prefix + name, f"expected {wanted}, found none")
        elif wanted is None:
            yield Difference(prefix + name, f"{surplus}, found {there}")
        elif wanted != there:
            yield Difference(prefix + name, f"expected {wanted}, found {there}")


def _of_hashes(
    prefix: str, expected: Mapping[str, str], found: Mapping[str, str], changed: str
) -> Iterator[Difference]:
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield Difference(prefix + name, "missing")
        elif name not in expected:
            yield Difference(prefix + name, "not in the manifest")
        elif expected[name] != found[name]:
            yield Difference(prefix + name, changed)
