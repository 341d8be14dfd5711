"""What the tests of the manifest share: distributions and a lab in folders of their own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with distributions that this interpreter sees and no other."""
    made = tmp_path / "site"
    made.mkdir()
    monkeypatch.setattr(sys, "path", [str(made)])
    return made


@pytest.fixture
def labs(tmp_path: Path) -> Path:
    folder = tmp_path / "labs"
    shutil.copytree(PROJECT / "labs" / "memory", folder / "memory")
    return folder
