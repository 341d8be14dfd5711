"""What of a lab everybody may see, and what is a key."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.conftest import PROJECT
from verify import lab_content


def test_lessons_and_keys_are_told_apart_as_the_images_sort_them(tmp_path: Path) -> None:
    """The shell script makes the images, this module describes them."""
    source = tmp_path / "labs"
    shutil.copytree(PROJECT / "labs", source, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "memory" / "picture.png").write_bytes(b"\x89PNG")
    (source / "memory" / "data").mkdir()
    (source / "memory" / "data" / "README.md").write_text("not for learners")
    script = str(PROJECT / "images" / "sort-labs.sh")
    public, keys = tmp_path / "public", tmp_path / "keys"
    subprocess.run(["sh", script, str(source), str(public), str(keys)], check=True)
    assert lab_content.public(public / "labs") == lab_content.public(source)
    assert lab_content.keys(public / "labs") == {}
    assert lab_content.keys(keys / "labs") == lab_content.keys(source)
