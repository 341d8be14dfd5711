"""A hash for what each folder of labs holds: what everybody may see, and the keys, apart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

# As images/sort-labs.sh sorts them; a test holds the two together.
_PUBLIC: Final = frozenset({"lab.toml", "README.md", "exercise.py", "scene.py"})
_PICTURES: Final = frozenset({".png", ".svg", ".jpg"})


def public(labs: Path) -> dict[str, str]:
    """Return a hash of the files that everybody may see, by folder: a skill or a package."""
    found = {}
    for lab in _folders(labs):
        if _is_package(lab):
            found[lab.name] = _digest(lab, _files(lab))
        elif (lab / "lab.toml").exists():
            found[lab.name] = _digest(lab, [file for file in _files(lab) if _is_public(file)])
    return found


def keys(labs: Path) -> dict[str, str]:
    """Return a hash of each lab's other files, by skill; a lab without any is left out.

    Raises:
        PermissionError: they are for the runner's root alone, and another user asks.
    """
    folders = [folder for folder in _folders(labs) if not _is_package(folder)]
    found = {lab: [file for file in _files(lab) if not _is_public(file)] for lab in folders}
    return {lab.name: _digest(lab, files) for lab, files in found.items() if files}


def everything(folder: Path) -> str:
    """Return a hash of all files in ``folder``."""
    return _digest(folder, _files(folder))


def _folders(labs: Path) -> list[Path]:
    return sorted(it for it in labs.glob("*") if it.is_dir() and not it.name.startswith("."))


def _is_package(folder: Path) -> bool:
    """Return whether it is no skill but Python that learners import, public as a whole."""
    return (folder / "__init__.py").exists() and not (folder / "lab.toml").exists()


def _files(lab: Path) -> list[Path]:
    """Return the files that are a lab's: nothing hidden, nothing compiled."""
    return sorted(
        Path(name)
        for name in (file.relative_to(lab) for file in lab.rglob("*") if file.is_file())
        if not name.name.startswith(".") and "__pycache__" not in name.parts
    )


def _is_public(file: Path) -> bool:
    return len(file.parts) == 1 and (file.name in _PUBLIC or file.suffix in _PICTURES)


def _digest(lab: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256((lab / file).read_bytes()).hexdigest()
        digest.update(f"{file}\0{content}\n".encode())
    return digest.hexdigest()
