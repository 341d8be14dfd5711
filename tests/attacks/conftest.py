"""Where attacks are made: a runner in process, mount, network and IPC name spaces of its own.

A hole in the sealing harms nothing but this: the machine's files are read-only there, temporary
ones small and its own, its processes see no others, and all of it ends with the first of them.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import COURSES, Runner, as_root, descendants

USER = 58_000
MOUNTS = """
mount --bind {0} {0}
mount -t tmpfs -o size=96m,nr_inodes=20k,mode=1777 tmpfs {0}/tmp
mount -t tmpfs -o size=32m,mode=1777 tmpfs /dev/shm
mount -t tmpfs -o size=8m,mode=1777 tmpfs /var/tmp
mount -o remount,bind,ro /
"""


class Den(Runner):
    """A runner in name spaces of its own, started as root (mode F) or as a user (mode S)."""

    def __init__(self, folder: Path, mode: str) -> None:
        super().__init__(COURSES / "attacked", folder)
        self.mode = mode
        self.outside = folder / "outside"

    def start(self) -> Den:
        self.outside.mkdir(exist_ok=True)
        runner = [sys.executable, "-I", "-m", "verify.supervisor", "--socket", str(self.socket)]
        runner += ["--labs", str(self.labs), "--results", str(self.results)]
        if self.mode == "S":
            user = f"--reuid={USER} --regid={USER} --clear-groups --inh-caps=-all".split()
            runner = ["setpriv", *user, *runner]
            for path in (self.folder, self.outside):
                os.chown(path, USER, USER)
        # Not the first process of its name space: that one is deaf to signals from within.
        (self.folder / "tmp").mkdir(exist_ok=True)
        mounts = MOUNTS.format(shlex.quote(str(self.folder)))
        script = f"set -e{mounts}{shlex.join(runner)} & wait $!"
        spaces = ["--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        secrets = {"HF_TOKEN": "sesame", "MY_SECRET": "sesame"}
        self.how = {"env": {**os.environ, **secrets, "TMPDIR": str(self.folder / "tmp")}}
        with (self.folder / "runner.log").open("ab") as log:
            command = ["unshare", *spaces, "sh", "-c", script]
            self.process = subprocess.Popen(command, stderr=log, **self.how)
        self.wait()
        return self

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def below(self) -> int:
        """Return how many processes the runner has below it; at rest it is the zygote alone."""
        assert self.process is not None
        # unshare, the shell, the supervisor
        return len(descendants(self.process.pid)) - 2

    def rest(self) -> int:
        """Wait until no job's process is left; return how many there are after a while."""
        for _ in range(100):
            if self.below() <= 1:
                break
            time.sleep(0.05)
        return self.below()

    def places(self) -> dict[str, str]:
        """Return the paths that attacks try to reach."""
        key = self.labs / "target"
        return {
            "key": str(key / "solution.py"),
            "checks": str(key / "checks.py"),
            "results": str(self.results),
            "socket": str(self.socket),
            "outside": str(self.outside),
            "other job": str(self.folder),
        }


@pytest.fixture(scope="module", params=["F", "S"])
def den(request: pytest.FixtureRequest) -> Iterator[Den]:
    if not as_root():
        pytest.skip("name spaces to attack in are made by root")
    folder = Path(tempfile.mkdtemp(prefix="attacks-", dir="/var/lib"))
    folder.chmod(0o755)
    den = Den(folder, request.param)
    try:
        yield den.start()
    finally:
        den.stop()
        shutil.rmtree(folder)
