"""Whose code runs: client and runner must be of one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from verify import code_hash


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that is hashed in its place."""
    copy = tmp_path / "elsewhere" / "verify"
    shutil.copytree(Path(code_hash.__file__).parent, copy)
    monkeypatch.setattr(code_hash, "__file__", str(copy / "code_hash.py"))
    return copy


def test_the_same_code_has_the_same_hash_wherever_it_lies(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = code_hash.code_hash()
    monkeypatch.undo()
    assert code_hash.code_hash() == there
    assert len(there) == 16


def test_every_module_counts_its_name_too(package: Path) -> None:
    found = [code_hash.code_hash()]
    for module in sorted(package.glob("*.py")):
        text = module.read_bytes()
        module.write_bytes(text + b"#")
        found.append(code_hash.code_hash())
        module.write_bytes(text)
    (package / "codec.py").rename(package / "codecs.py")
    found.append(code_hash.code_hash())
    (package / "codecs.py").unlink()
    found.append(code_hash.code_hash())
    assert len(set(found)) == len(found) > 50


def test_what_is_no_code_does_not_count(package: Path) -> None:
    before = code_hash.code_hash()
    (package / "notes.txt").write_text("x")
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "codec.cpython-311.pyc").write_bytes(b"x")
    assert code_hash.code_hash() == before
