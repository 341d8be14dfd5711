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
    (source / "shared" / "below").mkdir(parents=True)
    (source / "shared" / "__init__.py").touch()
    (source / "shared" / "below" / "table.toml").touch()
    (source / ".cache").mkdir()
    (source / ".cache" / "of_a_tool.json").touch()
    script = str(PROJECT / "images" / "sort-labs.sh")
    public, keys = tmp_path / "public", tmp_path / "keys"
    subprocess.run(["sh", script, str(source), str(public), str(keys)], check=True)
    assert lab_content.public(public / "labs") == lab_content.public(source)
    assert lab_content.keys(public / "labs") == {}
    assert lab_content.keys(keys / "labs") == lab_content.keys(source)


def test_a_package_is_public_as_a_whole_and_a_lab_without_its_toml_is_not(tmp_path: Path) -> None:
    source, public, keys = (tmp_path / name for name in ("labs", "public", "keys"))
    for name, files in {
        "shared": ("__init__.py", "checks.py", "below/table.toml"),
        "skill": ("lab.toml", "__init__.py", "scene.py", "checks.py"),
        "begun": ("solution.py", "scene.py"),
    }.items():
        for file in files:
            (source / name / file).parent.mkdir(parents=True, exist_ok=True)
            (source / name / file).write_text(file)
    script = str(PROJECT / "images" / "sort-labs.sh")
    subprocess.run(["sh", script, str(source), str(public), str(keys)], check=True)
    there = {str(it.relative_to(public / "labs")) for it in public.rglob("*") if it.is_file()}
    assert there == {
        "shared/__init__.py", "shared/checks.py", "shared/below/table.toml",
        "skill/lab.toml", "skill/scene.py",
    }  # fmt: skip
    assert set(lab_content.public(source)) == {"shared", "skill"}
    assert all(it.stat().st_mode & 0o004 for it in public.rglob("*"))
