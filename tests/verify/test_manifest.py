"""The manifest as a file, and the command that writes and compares it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from verify import manifest
from verify.lab.problems import Problem


def command(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "verify.manifest", *words],
        cwd=PROJECT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def write(output: Path, target: str = "lab", *more: str, **settings: str) -> bytes:
    labs, locks = PROJECT / "labs", PROJECT / "images" / "locks"
    words = ["write", "--target", target, "--variant", "cpu", "--base", "here:1@sha256:ab"]
    words += ["--labs", str(labs), "--locks", str(locks), "--output", str(output), *more]
    ended = command(*words, **settings)
    assert ended.returncode == 0, ended.stderr
    return output.read_bytes()


def test_written_twice_the_bytes_are_the_same_and_hold_no_time(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", LAB_DTYPE="float32")
    assert write(tmp_path / "b.json", LAB_DTYPE="float32") == first
    assert (tmp_path / "a.json").stat().st_mtime == 0
    assert not re.search(rb"20\d\d-\d\d-\d\dT", first)
    told = json.loads(first)
    assert told["settings"] == {"LAB_DTYPE": "float32"}
    assert (told["base"], told["digest"]) == ("here:1@sha256:ab", "sha256:ab")
    assert sorted(told["locks"]) == ["lab.lock", "torch-cpu.lock"]
    assert "memory" in told["labs"]
    assert told["keys"] == {}
    assert told["assets"] == ""


def test_assets_are_told_by_what_is_in_them_and_not_by_when(tmp_path: Path) -> None:
    found = []
    for name, content in (("a", "same"), ("b", "same"), ("c", "other")):
        folder = tmp_path / name
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "weights").write_text(content)
        words = ("lab", "--assets", str(folder))
        found.append(json.loads(write(tmp_path / f"{name}.json", *words))["assets"])
    assert len(found[0]) == 64
    assert found[0] == found[1] != found[2]


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    write(tmp_path / "m.json", "verifier", "--keys", str(PROJECT / "labs"))
    told = manifest.read(tmp_path / "m.json")
    assert told.target == "verifier"
    assert "memory" in told.keys


def test_the_command_says_identical_or_each_difference(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    told = json.loads(write(file))
    same = command("compare", "--manifest", str(file))
    assert (same.returncode, same.stderr) == (0, "")
    assert same.stdout.startswith("The same versions, torch and labs: torch ")
    told["distributions"]["rich"]["version"] = "1.0"
    told["labs"]["memory"] = "other"
    version = manifest.distributions()["rich"].version
    file.write_text(json.dumps(told))
    other = command("compare", "--manifest", str(file))
    assert other.returncode == 1
    assert other.stdout.splitlines() == [
        f"rich: expected 1.0, found {version}",
        "labs/memory: changed",
    ]


@pytest.mark.parametrize("content", [None, "{}", "not json", '{"schema": 99}'])
def test_without_a_manifest_the_code_is_3_and_says_what_to_type(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "m.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Problem):
        manifest.read(file)
    ended = command("compare", "--manifest", str(file))
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1].startswith("Type: invoke image.")
