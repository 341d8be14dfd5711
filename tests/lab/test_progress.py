"""Progress follows pip's lines, never runs backwards, and is plain where there is no terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.lab.conftest import Said
from verify.lab.progress import Installation, shown
from verify.lab.steps import Steps

PIP = (Path(__file__).parent / "pip_output" / "progress-pip26.txt").read_text()
PIP += "Ignoring colorama: markers 'sys_platform == \"win32\"' don't match your environment\n"
TOTAL = 16


def arrive(site: Path, name: str) -> None:
    (site / f"{name}.dist-info").mkdir()
    (site / f"{name}.dist-info" / "RECORD").touch()


def test_the_part_done_grows_to_one(tmp_path: Path) -> None:
    arrive(tmp_path, "torch")
    installation = Installation(TOTAL, tmp_path)
    parts = [installation.part]
    said = []
    for line in PIP.splitlines():
        installation.hear(line)
        parts.append(installation.part)
        said.append(installation.doing)
    assert installation.found == TOTAL
    assert installation.part == 0.5
    for number in range(TOTAL + 2):
        arrive(tmp_path, f"package{number}")
        parts.append(installation.part)
    assert parts[0] == 0.0
    assert parts[-1] == 1.0
    fetching = PIP.splitlines().index("Progress 0 of 43139553")
    grown = [p for n, p in enumerate(parts) if n not in (fetching - 1, fetching)]
    assert grown == sorted(grown)
    assert "fetching bitsandbytes (43.1 MB)" in said
    assert "finding argon2-cffi-bindings" in said
    assert "writing files" in said


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("Collecting annotated-doc==0.0.7", True),  # pip 23.0
        ("Processing /wheels/idna-3.20-py3-none-any.whl", True),
        ("Collecting idna==3.20 (from -r lab.lock (line 1))", True),
        ("Requirement already satisfied: idna==3.20 in ./v (from -r lab.lock (line 1)) (3)", True),
        ("Requirement already satisfied: torch>=2 in ./v (from a==1->-r lab.lock (line 4))", False),
        ("  Downloading idna-3.20-py3-none-any.whl (64 kB)", False),
        ("Looking in links: /wheels", False),
    ],
)
def test_each_line_of_the_lock_counts_once(tmp_path: Path, line: str, counts: bool) -> None:
    installation = Installation(1, tmp_path)
    installation.hear(line)
    assert installation.found == counts


def test_a_package_half_written_has_not_arrived(tmp_path: Path) -> None:
    installation = Installation(1, tmp_path)
    installation.hear("Installing collected packages: a")
    (tmp_path / "a.dist-info").mkdir()
    assert installation.part == 0.0


def test_plain_lines_without_a_terminal(said: Said, tmp_path: Path) -> None:
    with shown(said, "installing a.lock", Installation(60, tmp_path)) as hear:
        for number in range(60):
            hear(f"Collecting a{number}==1 (from -r a.lock (line {number}))")
            hear(None)
        for _ in range(3):
            hear("WARNING: Retrying (Retry(total=4)) after connection broken by 'x': /simple/a/")
        hear("Installing collected packages: a0")
    assert said.text.splitlines() == [
        "  installing a.lock",
        "    25 of 60 packages",
        "    50 of 60 packages",
        "    the package index does not answer yet; trying again",
        "    writing files",
    ]


def test_a_bar_on_a_terminal(tmp_path: Path) -> None:
    buffer = io.StringIO()
    steps = Steps(Console(file=buffer, force_terminal=True, width=120, no_color=True))
    with shown(steps, "installing a.lock", Installation(2, tmp_path)) as hear:
        hear("Collecting a==1 (from -r a.lock (line 1))")
        hear(None)
    assert "installing a.lock" in buffer.getvalue()
    assert "25 %" in buffer.getvalue()
    assert "finding a" in buffer.getvalue()


def test_steps_are_ticked_also_where_ticks_cannot_be_written() -> None:
    raw = io.BytesIO()
    steps = Steps(Console(file=io.TextIOWrapper(raw, "ascii"), width=80))
    with steps.step("Working") as step:
        step.done = "Worked [not markup]"
    steps.console.file.flush()
    assert raw.getvalue() == b"+ Worked [not markup]\n"


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    buffer = io.StringIO()
    Steps(Console(file=buffer, force_terminal=True)).ticked("done")
    assert "\x1b[3" not in buffer.getvalue()
