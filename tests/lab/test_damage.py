"""An environment in which nothing starts any more still says what is wrong with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from verify.lab import damage, locks, runner
from verify.lab.layout import Layout


@pytest.fixture
def made(tmp_path: Path) -> Layout:
    """A project whose environment has nothing in it but the project, and a torch of no use."""
    layout = Layout(tmp_path)
    shutil.copytree(PROJECT / "images" / "locks", layout.locks)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", layout.venv], check=True)
    (packages,) = layout.venv.glob("lib/*/site-packages")
    (packages / "project.pth").write_text(f"{PROJECT}\n")
    locks.ask_for(layout, "cpu")
    describe(packages, "torch", locks.pin(layout, "torch") or "", "torch.py")
    return layout


def describe(packages: Path, name: str, version: str, *files: str) -> Path:
    folder = packages / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (folder / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))
    for file in files:
        (packages / file).touch()
    return packages


def site(layout: Layout) -> Path:
    (packages,) = layout.venv.glob("lib/*/site-packages")
    return packages


def test_of_one_that_is_whole_nothing_is_said(made: Layout) -> None:
    assert damage.find(made) == ""


def test_a_file_that_is_gone_is_named_with_its_library(made: Layout) -> None:
    describe(site(made), "packaging", "26.0", "requirements.py")
    (site(made) / "requirements.py").unlink()
    assert damage.find(made) == "packaging: files are missing, first requirements.py"


def test_another_torch_is_named_first(made: Layout) -> None:
    wanted = locks.pin(made, "torch")
    (site(made) / f"torch-{wanted}.dist-info").rename(site(made) / "torch-2.12.1.dist-info")
    (site(made) / "torch-2.12.1.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.12.1")
    assert damage.find(made) == f"torch: expected {wanted}, found 2.12.1"
    shutil.rmtree(site(made) / "torch-2.12.1.dist-info")
    assert damage.find(made) == f"torch: expected {wanted}, found none"


def test_where_there_is_no_python_to_ask_nothing_is_said(tmp_path: Path) -> None:
    assert damage.find(Layout(tmp_path)) == ""


def test_a_runner_that_does_not_start_says_so(made: Layout) -> None:
    (site(made) / "torch.py").unlink()
    problem = runner._failed(made, "ended while it started")
    assert "not whole: torch: files are missing, first torch.py." in problem.happened
    assert problem.type_this == damage.MEND
