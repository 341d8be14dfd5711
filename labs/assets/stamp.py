"""What the assets were made from: as long as that is the same, they are not made again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any, Final

import verify

_FILE: Final = "made-from.json"
_LIBRARIES: Final = ("torch", "transformers", "tokenizers", "safetensors")


def write(folder: Path) -> None:
    """Note in ``folder`` what it was made from."""
    (folder / _FILE).write_text(json.dumps(now(), indent=1) + "\n")


def fits(folder: Path) -> bool:
    """Return whether ``folder`` was made from what is here now."""
    try:
        return bool(json.loads((folder / _FILE).read_text()) == now())
    except (OSError, ValueError):
        return False


def now() -> dict[str, Any]:
    """Return a hash of the code and the tables here, and the libraries' versions."""
    here = Path(__file__).parent
    files = [*here.glob("*.py"), *here.glob("text/*.toml")]
    files.append(Path(str(verify.__file__)).with_name("tiny.py"))
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda it: it.name):
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"code": digest.hexdigest(), "libraries": libraries}
