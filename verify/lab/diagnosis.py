"""What pip's output means: one clear message for each way an installation fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from verify.lab.locks import CPU_INDEX
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from verify.lab.pip import Outcome

_AGAIN = "invoke lab.up"
_KILLED = -9

# Fragments of what pip and urllib3 print, in the order they are looked for: a full disk also
# spoils a download's hash, and an index nobody reaches also has "no matching distribution".
_NO_SPACE = re.compile(r"\[Errno 28\]|\[Errno 122\]|No space left on device|Disk quota exceeded")
_NOT_ALLOWED = re.compile(r"\[Errno 13\] Permission denied: '([^']*)'")
_WRONG_HASH = re.compile(r"DO NOT MATCH THE HASHES")
_WRONG_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError")
_NO_CONNECTION = re.compile(
    r"connection broken by|NewConnectionError|NameResolutionError|ConnectTimeoutError|"
    r"ReadTimeoutError|ProxyError|Max retries exceeded|Connection aborted|IncompleteRead"
)
_WRONG_PYTHON = re.compile(r"requires a different [Pp]ython|is not a supported wheel on this")
_NO_MATCH = re.compile(r"No matching distribution found for (\S+)")


def no_match(outcome: Outcome) -> bool:
    """Return whether pip knows no file that fits: another index may have one."""
    return bool(_NO_MATCH.search(outcome.output))


def diagnose(outcome: Outcome, lock: Path, log: Path) -> Problem:
    """Return the problem behind a failed installation of ``lock``."""
    text = outcome.output
    whole = f"the whole output is in {log}"
    if _NO_SPACE.search(text):
        return _no_space(whole)
    if found := _NOT_ALLOWED.search(text):
        return Problem(
            f"{found[1]} may not be written by you; {whole}.",
            cause="an earlier run as another user (sudo?) made it",
            type_this='sudo chown -R "$USER" .lab  # in the project folder',
        )
    if _WRONG_HASH.search(text):
        return _wrong_hash(text, lock, whole)
    if _WRONG_CERTIFICATE.search(text):
        return Problem(
            f"The package index's certificate is not trusted here; {whole}.",
            cause="this network checks encrypted traffic with a certificate authority of its own",
            type_this="pip config set global.cert /path/to/that-authority.pem && " + _AGAIN,
        )
    if _NO_CONNECTION.search(text):
        return Problem(
            f"No package index answers; {whole}.",
            cause="there is no network here, or a proxy is needed that pip does not know of",
            type_this=f"pip config list  # shows which index and proxy pip uses; then {_AGAIN}",
        )
    return _no_file(text, outcome.code, lock, whole)


def no_cpu_torch(first: Outcome, second: Outcome, lock: Path, log: Path) -> Problem:
    """Return the problem when neither the machine's own index nor PyTorch's had the CPU build."""
    unreached = _NO_CONNECTION.search(second.output) or _WRONG_CERTIFICATE.search(second.output)
    if not unreached or _NO_CONNECTION.search(first.output):
        return diagnose(second, lock, log)
    return Problem(
        f"The CPU build of torch cannot be had from here; the whole output is in {log}.",
        cause=f"this machine's own package index lacks it, and {CPU_INDEX} does not answer",
        type_this=f"PIP_FIND_LINKS=/folder/with/that/wheel {_AGAIN}",
    )


def no_environment(stderr: str, venv: Path) -> Problem:
    """Return the problem of a Python that could not make an empty environment at ``venv``."""
    if _NO_SPACE.search(stderr):
        return too_little_space(0, 0, venv.parent)
    last = stderr.strip().splitlines()[-1:] or ["no reason was given"]
    return Problem(
        f"{venv} could not be made: {last[0]}",
        cause="this Python has no module venv: Debian and Ubuntu package it by itself",
        type_this=f"sudo apt install python3-venv && {_AGAIN}",
    )


def no_pip(output: str, place: Path) -> Problem:
    """Return the problem of a Python that could not make a pip of its own."""
    if _NO_SPACE.search(output):
        return too_little_space(0, 0, place)
    return Problem(
        "There is no pip to install the lab's libraries with.",
        cause="Debian and Ubuntu keep it in a package of its own",
        type_this=f"sudo apt install python3-venv && {_AGAIN}",
    )


def too_little_space(free: int, needed: int, place: Path) -> Problem:
    """Return the problem of a disk with too few bytes ``free`` to begin; 0 ``needed``: unknown."""
    need = f"the lab needs about {needed / 1e9:.0f} GB" if needed else "the lab needs more"
    return Problem(
        f"{place} has {free / 1e9:.1f} GB free and {need}.",
        cause="the disk or your quota on it is nearly full",
        type_this=f"df -h {place}  # then make room, and: {_AGAIN}",
    )


def _no_space(whole: str) -> Problem:
    return Problem(
        f"The disk became full while the lab's libraries were installed; {whole}.",
        cause="the project's disk, or the one of /tmp where pip unpacks, is too small",
        type_this="df -h . /tmp  # then make room (another place to unpack: "
        f"export TMPDIR=/path), and: {_AGAIN}",
    )


def _wrong_hash(text: str, lock: Path, whole: str) -> Problem:
    package = re.search(r"^ +(\S+==\S+|\S+) from \S+", text, re.MULTILINE)
    name = package[1] if package else "A package"
    return Problem(
        f"{name} is not the file that {lock.name} names by hash; it was not installed; {whole}.",
        cause="a download that was cut short, a mirror with other files, or a changed package",
        type_this=f"pip cache purge && {_AGAIN}",
    )


def _no_file(text: str, code: int, lock: Path, whole: str) -> Problem:
    if found := _NO_MATCH.search(text) or _WRONG_PYTHON.search(text):
        what = found[1] if found.re is _NO_MATCH else "a package"
        return Problem(
            f"The package index has no file of {what} for this Python; {whole}.",
            cause="the index is an incomplete mirror, or serves no wheels for this machine",
            type_this=f"pip config list  # shows which index pip uses; then {_AGAIN}",
        )
    if code == _KILLED:
        return Problem(
            f"The installation was killed; {whole}.",
            cause="the machine ran out of memory",
            type_this=f"free -h  # then close what needs it, and: {_AGAIN}",
        )
    errors = [line for line in text.splitlines() if line.startswith("ERROR:")]
    last = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with code {code}"
    return Problem(
        f"{lock.name} could not be installed: {last}",
        cause=f"see {whole.removeprefix('the whole output is in ')}",
        type_this=_AGAIN,
    )
