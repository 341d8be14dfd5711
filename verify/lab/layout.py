"""Where everything of one lab lies: below the project's folder, or where an image puts it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Final

SOCKET: Final = "runner.sock"
NOBODY: Final = 65534


@dataclasses.dataclass(frozen=True)
class Layout:
    """The places of the lab whose project folder is ``root``.

    What the tasks make is in two git-ignored folders: ``.lab/`` (theirs, may be deleted while
    nothing runs) and ``workspace/`` (the learner's).
    """

    root: Path

    @property
    def state(self) -> Path:
        """Everything the tasks make for themselves."""
        return self.root / ".lab"

    @property
    def venv(self) -> Path:
        """The virtual environment that JupyterLab, the runner and the tests run in."""
        return self.state / "venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.venv / "bin" / "python"

    @property
    def run(self) -> Path:
        """What is only true while something runs: the socket and the process records."""
        return self.state / "run"

    @property
    def socket(self) -> Path:
        """The Unix socket of the local runner."""
        return self.run / SOCKET

    @property
    def compose_run(self) -> Path:
        """The folder in which the container of the runner has its socket."""
        return self.state / "compose"

    @property
    def carrier(self) -> Path:
        """Holds the command that reaches the container's runner where its socket cannot be."""
        return self.state / "carrier.json"

    @property
    def runners(self) -> dict[str, Path | tuple[str, ...]]:
        """Where a resident runner may answer, by runtime, the preferred first."""
        compose: Path | tuple[str, ...] = self.compose_run / SOCKET
        with contextlib.suppress(OSError):
            compose = tuple(json.loads(self.carrier.read_text()))
        return {"compose": compose, "local": self.socket}

    @property
    def holds_keys(self) -> bool:
        """Whether exercises can be judged here: checks and solutions are at hand."""
        return any(self.labs.glob("*/checks.py"))

    @property
    def logs(self) -> Path:
        """One log file per service, and ``install.log``."""
        return self.state / "log"

    @property
    def install_log(self) -> Path:
        """All that the installer printed."""
        return self.logs / "install.log"

    @property
    def jupyter(self) -> Path:
        """JupyterLab's own configuration, run-time and data folders: nobody else's are read."""
        return self.state / "jupyter"

    @property
    def token(self) -> Path:
        """The file with JupyterLab's token, readable by its owner alone."""
        return self.jupyter / "token"

    @property
    def results(self) -> Path:
        """The runner's database of results."""
        return self.state / "results" / "results.sqlite"

    @property
    def standalone_results(self) -> Path:
        """The database of runners that serve one run only."""
        return self.state / "standalone" / "results.sqlite"

    @property
    def asked_variant(self) -> Path:
        """Holds the variant that was asked for, where one was."""
        return self.state / "variant"

    @property
    def shipped(self) -> Path:
        """What was put into the workspace, by hash: how a learner's change is recognised."""
        return self.workspace / ".shipped.json"  # both runtimes fill the one workspace

    @property
    def labs(self) -> Path:
        """The labs as they are shipped."""
        return self.root / "labs"

    @property
    def assets(self) -> Path:
        """The model, the tokenizers and the data that `labs.assets` makes."""
        return self.state / "assets"

    @property
    def locks(self) -> Path:
        """The hash-locked requirement files."""
        return self.root / "images" / "locks"

    @property
    def workspace(self) -> Path:
        """The learner's folder."""
        return self.root / "workspace"

    def record(self, service: str) -> Path:
        """Return the file that says which process ``service`` is."""
        return self.run / f"{service}.json"

    def log(self, service: str) -> Path:
        """Return the log file of ``service``."""
        return self.logs / f"{service}.log"

    def reader(self, workspace: Path) -> int:  # noqa: ARG002 - an image's depends on it
        """Return the user whose rights to files a client has when it reads ``workspace``."""
        return os.geteuid()

    @property
    def manifest(self) -> Path:
        """What an image says of itself; there is none outside of one."""
        return self.root / "manifest.json"

    def prepare(self) -> None:
        """Make the folders."""
        self.state.mkdir(exist_ok=True)
        # The runner's learner processes have a user of their own and must reach .lab/venv,
        # but none of the rest: it holds the token, the logs and the runner's results.
        self.state.chmod(0o755)
        for private in (self.run, self.logs, self.jupyter, self.results.parent):
            private.mkdir(parents=True, exist_ok=True)
            private.chmod(0o700)
        self.workspace.mkdir(exist_ok=True)


class InImage(Layout):
    """The places of a lab inside one of its own containers; `compose.yaml` mounts them."""

    @property
    def state(self) -> Path:
        """The folder of whoever runs this container, in the home that is a volume."""
        return Path("/home/lab", str(os.geteuid()))

    @property
    def venv(self) -> Path:
        """The image's own environment."""
        return Path("/opt/venv")

    @property
    def run(self) -> Path:
        """The folder that both containers share."""
        return Path("/run/lab")

    @property
    def runners(self) -> dict[str, Path | tuple[str, ...]]:
        """The one runner there is."""
        return {"compose": self.socket}

    @property
    def results(self) -> Path:
        """The runner's database of results, in a volume."""
        return Path("/var/lib/lab/results.sqlite")

    @property
    def standalone_results(self) -> Path:
        """The database of the one-shot form, in the same volume."""
        return self.results.parent / "standalone" / "results.sqlite"

    @property
    def assets(self) -> Path:
        """Made when the image was built."""
        return self.root / "assets"

    @property
    def workspace(self) -> Path:
        """The learner's folder on the host, mounted."""
        return Path("/workspace")

    def reader(self, workspace: Path) -> int:
        """Return the owner of ``workspace``, or nobody instead of root.

        A link in it could lead to what only the runner's root may read: a solution, say.
        """
        return workspace.stat().st_uid or NOBODY

    def prepare(self) -> None:
        """Make the folders of JupyterLab; the others are mounted."""
        self.jupyter.mkdir(mode=0o700, parents=True, exist_ok=True)


def here() -> Layout:
    """Return the layout of the project that this module belongs to."""
    root = Path(__file__).resolve().parents[2]
    inside = InImage(root)
    return inside if inside.manifest.exists() else Layout(root)
