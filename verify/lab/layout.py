"""Where everything of one lab lies, below the project's folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path


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
        """The runner's Unix socket."""
        return self.run / "runner.sock"

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
    def shipped(self) -> Path:
        """What was put into the workspace, by hash: how a learner's change is recognised."""
        return self.state / "shipped.json"

    @property
    def labs(self) -> Path:
        """The labs as they are shipped."""
        return self.root / "labs"

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

    def prepare(self) -> None:
        """Make the folders."""
        self.state.mkdir(exist_ok=True)
        # The runner's learner processes have a user of their own and must reach .lab/venv,
        # but none of the rest: it holds the token, the logs and the runner's results.
        self.state.chmod(0o755)
        for private in (self.run, self.logs, self.jupyter, self.results.parent):
            private.mkdir(exist_ok=True)
            private.chmod(0o700)
        self.workspace.mkdir(exist_ok=True)
