"""What the tests of the local lab share: a small project of its own, and what is said to a user."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from verify.lab.layout import Layout
from verify.lab.processes import Service
from verify.lab.steps import Steps

_LAB = """
title = "{title}"
order = {order}
required = {required}
review = "a review"
[functions]
double = "double(x)"
"""


class Said(Steps):
    """Steps that remember what was said."""

    def __init__(self) -> None:
        self.buffer = io.StringIO()
        super().__init__(Console(file=self.buffer, width=100, force_terminal=False))

    @property
    def text(self) -> str:
        return self.buffer.getvalue()


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A project with two labs and no environment."""
    made = Layout(tmp_path / "project")
    made.root.mkdir()
    add_lab(made, "double", 1, "true")
    add_lab(made, "halve", 2, "false")
    made.prepare()
    return made


def add_lab(layout: Layout, skill: str, order: int, required: str) -> Path:
    folder = layout.labs / skill
    folder.mkdir(parents=True)
    title = skill.capitalize()
    (folder / "lab.toml").write_text(_LAB.format(title=title, order=order, required=required))
    (folder / "exercise.py").write_text(f"# the starter of {skill}\n")
    (folder / "README.md").write_text(f"# The lesson of {skill}\n")
    (folder / "solution.py").write_text("# not for learners\n")
    (folder / "checks.py").write_text("# not for learners\n")
    (folder / "misconceptions.py").write_text("# not for learners\n")
    return folder


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that is stopped after the test whatever happens."""
    made = Service("sleeper", tmp_path / "sleeper.json", tmp_path / "sleeper.log")
    yield made
    made.stop(grace=1)


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    text: str = "",
    *,
    module: str = "",
    requires: Sequence[str] = (),
) -> str:
    """Write a wheel with one module into ``folder`` and return its line of a lock file."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{module or name}.py": text or f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {it}\n" for it in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "".join(f"{path},{_digest(content)},\n" for path, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
