"""What a build is given of this machine: its certificates, its way to packages, its own wheels.

They go in as build secrets and as a build context, which leave nothing in a layer
(https://docs.docker.com/build/building/secrets/).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from verify.lab import locks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.lab.layout import Layout

_CERTIFICATES: Final = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PASSED_ON: Final = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries", "proxy")
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_SETTING: Final = re.compile(r"(?:.*\.)?([\w-]+)=(.*)")


@dataclasses.dataclass(frozen=True)
class PipSettings:
    """What pip on this machine is set up with.

    Attributes:
        passed_on: The settings that mean the same inside a build.
        certificates: The CA bundle, or None.
        folders: Local folders with wheels.
    """

    passed_on: dict[str, str]
    certificates: Path | None
    folders: list[Path]

    @property
    def text(self) -> str:
        """The settings as a pip.conf; empty where there are none."""
        lines = [f"{name} = {value}\n" for name, value in sorted(self.passed_on.items())]
        return "".join(["[global]\n", *lines]) if lines else ""


def pip_settings(told: str) -> PipSettings:
    """Return the settings that ``pip config list`` prints as ``told``.

    Places on this machine's disk mean nothing inside a build: folders with wheels are handed over
    as such, local indexes are left out.
    """
    found: dict[str, list[str]] = {}
    for line in told.splitlines():
        if match := _SETTING.fullmatch(line):
            # pip prints the values as Python writes text.
            value = match[2].strip("'").replace("\\n", " ")
            found.setdefault(match[1].lower(), []).extend(value.split())
    passed_on = {}
    for name in _PASSED_ON:
        if values := [value for value in found.get(name, []) if not _is_local(value)]:
            passed_on[name] = " ".join(dict.fromkeys(values))
    folders = [_path(value) for value in found.get("find-links", []) if _is_local(value)]
    bundles = [os.environ[name] for name in _CERTIFICATES if os.environ.get(name)]
    existing = [Path(it) for it in (*found.get("cert", []), *bundles) if Path(it).is_file()]
    return PipSettings(passed_on, existing[0] if existing else None, folders)


def ask_pip() -> str:
    """Return what pip on this machine says of its settings; empty where there is no pip.

    The environment that this runs in may have none of its own (that of `invoke test` has not).
    """
    for command in ([sys.executable, "-m", "pip"], ["pip"], ["python3", "-m", "pip"]):
        with contextlib.suppress(OSError):
            answer = subprocess.run(  # noqa: S603
                [*command, "config", "list"], capture_output=True, text=True, check=False
            )
            if answer.returncode == 0:
                return answer.stdout
    return ""


@contextlib.contextmanager
def arguments(layout: Layout) -> Iterator[list[str]]:
    """Yield the arguments of ``docker buildx build`` that hand this machine's means over."""
    settings = pip_settings(ask_pip())
    with tempfile.TemporaryDirectory(prefix="lab-build-") as folder:
        given = []
        if settings.certificates:
            given += ["--secret", f"id=ca,src={settings.certificates}"]
        if settings.text:
            conf = Path(folder, "pip.conf")
            conf.write_text(settings.text)  # may hold a password: the folder is ours alone
            given += ["--secret", f"id=pip.conf,src={conf}"]
        wheels = Path(folder, "wheels")
        if collect_wheels(settings.folders, layout.locks, wheels):
            given += ["--build-context", f"wheels={wheels}"]
        for name in _PROXIES:
            if os.environ.get(name):
                given += ["--build-arg", name]  # its value from the environment, not the command
        yield given


def collect_wheels(folders: list[Path], lock_files: Path, target: Path) -> int:
    """Put the wheels in ``folders`` that a lock file names into ``target``; return how many.

    A wheel's hash is checked when it is installed; here only its name counts.
    """
    pins = {_normal(pin) for lock in lock_files.glob("*.lock") for pin in locks.packages(lock)}
    target.mkdir()
    count = 0
    for wheel in (file for folder in folders for file in sorted(folder.glob("*.whl"))):
        name, version, *_ = wheel.name.split("-")
        if _normal(f"{name}=={version}") in pins and not (target / wheel.name).exists():
            count += 1
            try:
                os.link(wheel.resolve(), target / wheel.name)
            except OSError:  # another file system
                shutil.copyfile(wheel, target / wheel.name)
    return count


def _normal(pin: str) -> str:
    name, _, version = pin.partition("==")
    return re.sub(r"[-_.]+", "-", name).lower() + "==" + version


def _is_local(value: str) -> bool:
    return urlsplit(value).scheme in ("", "file") and "/" in value


def _path(value: str) -> Path:
    return Path(url2pathname(urlsplit(value).path)) if "://" in value else Path(value)
