"""The scripts in docs/node-check.md, as they stand there: what each does with a node's verdict.

The schedulers are played: what `scontrol` is told is what counts.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PAGE = (PROJECT / "docs" / "node-check.md").read_text("utf-8")
HEALTH, PROLOG = re.findall(r"```bash\n(#!/bin/sh\n.+?)```", PAGE, re.DOTALL)
(CRON,) = re.findall(r"^15 6 \* \* \* lab (.+)$", PAGE, re.MULTILINE)
READY = ("ready: x86-64 without a GPU; 27 checks passed (3.5 s)", 0)
BAD = ("NOT READY: open_files: 64 files; ulimit -n 8192 && invoke lab.up  # or so", 3)
SILENT = ("", 127)


class Node:
    """A node with a project whose `invoke` says one thing, and a scheduler that writes down."""

    def __init__(self, root: Path, verdict: tuple[str, int], reason: str = "") -> None:
        self.root = root
        said, code = verdict
        self._tool(
            "project/.venv/bin/invoke", f'echo "$@" >>{root}/asked; echo "{said}"; exit {code}'
        )
        show = f'echo "NodeName=node1 State=IDLE {reason}"'
        self._tool("bin/scontrol", f'[ $1 = show ] && {show} || printf "%s|" "$@" >>{root}/told')

    def _tool(self, name: str, body: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)

    def run(self, script: str, **environ: str) -> subprocess.CompletedProcess[str]:
        here = script.replace("/opt/finetune-lab", str(self.root / "project"))
        return subprocess.run(
            ["sh", "-c", here],
            env={"PATH": f"{self.root}/bin:{os.defpath}", **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def told(self) -> str:
        file = self.root / "told"
        return file.read_text() if file.exists() else ""


def test_a_node_that_is_ready_is_left_alone(tmp_path: Path) -> None:
    node = Node(tmp_path, READY)
    assert [node.run(it).returncode for it in (HEALTH, PROLOG)] == [0, 0]
    assert node.told == ""
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["node.check --quiet --gpu-workload", "node.check --quiet"]


@pytest.mark.parametrize(("script", "code"), [(HEALTH, 0), (PROLOG, 1)])
def test_one_that_is_not_is_drained_with_the_line(tmp_path: Path, script: str, code: int) -> None:
    node = Node(tmp_path, BAD)
    assert node.run(script, SLURMD_NODENAME="node1").returncode == code
    reason = BAD[0].removeprefix("NOT READY: ")
    assert node.told == f"update|nodename=node1|state=drain|reason=lab: {reason}|"


@pytest.mark.parametrize("script", [HEALTH, PROLOG])
def test_one_whose_check_says_nothing_is_drained_with_a_reason_too(
    tmp_path: Path, script: str
) -> None:
    node = Node(tmp_path, SILENT)
    node.run(script)
    assert node.told.endswith("reason=lab: node: it said nothing; is .venv whole?|")
    assert f"nodename={os.uname().nodename.partition('.')[0]}|" in node.told


def test_an_operators_own_reason_stays(tmp_path: Path) -> None:
    node = Node(tmp_path, BAD, reason="Reason=disk swap")
    node.run(HEALTH, SLURMD_NODENAME="node1")
    assert node.told == ""


@pytest.mark.parametrize(("script", "code"), [(HEALTH, 0), (PROLOG, 1)])
def test_a_node_without_the_project(tmp_path: Path, script: str, code: int) -> None:
    assert (
        Node(tmp_path, READY).run(script.replace("/opt/finetune-lab", "/nowhere")).returncode
        == code
    )


@pytest.mark.parametrize(("verdict", "mail"), [(READY, ""), (BAD, BAD[0] + "\n")])
def test_cron_mails_what_is_wrong_and_nothing_else(
    tmp_path: Path, verdict: tuple[str, int], mail: str
) -> None:
    assert Node(tmp_path, verdict).run(CRON).stdout == mail
