"""A node's verdict: one line, one exit code, the record of verify, and nothing that hangs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import PROJECT
from verify import host_half, node, node_process
from verify.lab.layout import InImage, Layout
from verify.results import CheckResult, Run


def result(name: str, status: Any = "passed", level: Any = "check", **more: Any) -> CheckResult:
    told = {"title": name, "evidence": "probe", "cause": "environment"}
    return CheckResult(name=name, status=status, level=level, **(told | more))


HINT = "Somebody did. Type: ulimit -n 8192"
BAD = result("open_files", "failed", message="The runner may have 64\nfiles open.", hint=HINT)


def test_one_line_says_that_it_is_ready() -> None:
    checks = [
        result("kind_known", message="Hopper: bfloat16, driver R580 or newer"),
        result("host_hub", "failed", "advice", hint=HINT),
    ]
    line = node.ready(checks, 4.21)
    assert line == "ready: Hopper; 1 checks passed; 1 to look at: host_hub (4.2 s)"


def test_one_line_says_what_is_wrong_and_what_to_type() -> None:
    line = node.not_ready([BAD])
    told = "open_files: The runner may have 64 files open; ulimit -n 8192"
    assert line == f"NOT READY: {told}"
    assert node.not_ready([BAD, result("cores")]) == f"NOT READY: {told} (and 1 more: cores)"


def test_a_verdict_without_a_command_is_one_line_too() -> None:
    assert node.not_ready([result("broken", "error", message="a\nb")]) == "NOT READY: broken: a b"


@pytest.fixture
def as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the runner's half alone: the host's is another test's."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(host_half.host, "checks", lambda *_, **__: [])


@pytest.mark.usefixtures("as_here")
def test_this_node_is_ready_with_a_record_as_verify_makes_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record, suite = tmp_path / "node.json", tmp_path / "node.xml"
    code = node.run(Layout(PROJECT), node.Asked(quiet=True, json=record, junit=suite))
    out = capfd.readouterr().out
    assert code == 0, out
    assert out.count("\n") == 1
    assert out.startswith("ready: ")
    told = msgspec.json.decode(record.read_bytes(), type=Run)
    assert [skill.skill for skill in told.skills] == ["environment"]
    assert told.environment.runtime == "node"
    assert told.skills[0].ready
    assert len(ElementTree.parse(suite).findall(".//testcase")) == len(told.skills[0].checks)


@pytest.mark.usefixtures("as_here")
def test_everything_is_shown_when_it_is_not_to_be_quiet(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert node.run(Layout(PROJECT), node.Asked(color=False)) == 0
    *shown, last = capfd.readouterr().out.splitlines()
    assert last.startswith("ready: ")
    assert any("No file of torch" in line for line in shown)


HANGS = """
import time
print('{"event": "started", "check": "bf16_product"}', flush=True)
time.sleep(60)
"""


def checks_that(folder: Path, code: str) -> Layout:
    """Return a lab whose Python is a program of these lines, whatever it is asked."""
    made = Layout(folder)
    (made.labs / "one").mkdir(parents=True)
    (made.labs / "one" / "checks.py").touch()
    made.python.parent.mkdir(parents=True)
    made.python.write_text(f"#!{sys.executable}\n{code}\n")
    made.python.chmod(0o755)
    return made


def test_checks_that_hang_are_ended_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(node_process, "_SECONDS", 0.5)
    began = time.monotonic()
    code = node.run(checks_that(tmp_path, HANGS), node.Asked(quiet=True))
    assert time.monotonic() - began < 10
    assert code == 3
    out = capfd.readouterr().out
    assert out.startswith("NOT READY: node: The checks did not end within")
    assert "; the last was of bf16_product; nvidia-smi" in out


def test_each_check_is_told_when_it_begins(tmp_path: Path) -> None:
    events = node_process.events(checks_that(tmp_path, HANGS), workload=False)
    assert next(events) == {"event": "started", "check": "bf16_product"}
    events.close()  # it sleeps, and is ended


def test_the_checks_end_with_the_command_that_asked_for_them() -> None:
    code = (
        "import os; from pathlib import Path\n"
        "from verify import node_process; from verify.lab.layout import Layout\n"
        f"events = node_process.events(Layout(Path({str(PROJECT)!r})), workload=False)\n"
        "next(events)\n"
        "print(*Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text().split())\n"
        "os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    (child,) = done.stdout.split()
    for _ in range(100):
        stat = Path(f"/proc/{child}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the process that looks outlived the command")


def test_checks_that_end_early_are_named_with_their_last_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    layout = checks_that(tmp_path, "raise SystemExit('ImportError: libtorch.so')")
    assert node.run(layout, node.Asked(quiet=True)) == 3
    assert "ended early: ImportError: libtorch.so" in capfd.readouterr().out
    assert node.run(layout, node.Asked(color=False)) == 3
    assert "ended early" in capfd.readouterr().err


def test_what_a_library_prints_on_the_way_is_no_event(tmp_path: Path) -> None:
    """As a line of a .pth does, before anything of ours runs."""
    code = 'print(\'hello\'); print(\'[1]\'); print(\'{"event": "started", "check": "x"}\')'
    found = list(node_process.events(checks_that(tmp_path, code), workload=False))
    assert found == [{"event": "started", "check": "x"}]


@pytest.mark.usefixtures("as_here")
def test_a_record_that_cannot_be_written_changes_no_verdict(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "node.json").mkdir()
    code = node.run(Layout(PROJECT), node.Asked(quiet=True, json=tmp_path / "node.json"))
    out, err = capfd.readouterr()
    assert code == 2
    assert out.startswith("ready: ")
    assert "could not be written" in err


@pytest.mark.parametrize(
    ("last", "command"),
    [
        (
            "PermissionError: [Errno 13] Permission denied: '/opt/lab'",
            "the same as root, or as the user who made the lab",
        ),
        ("ImportError: libx.so: failed to map segment from shared object", "findmnt -T .lab"),
        ("FileNotFoundError: No usable temporary directory found in ['/tmp']", "df -h /tmp"),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", "ulimit -u"),
    ],
)
def test_an_end_that_is_known_has_its_own_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], last: str, command: str
) -> None:
    layout = checks_that(tmp_path, f"raise SystemExit({last!r})")
    assert node.run(layout, node.Asked(quiet=True)) == 3
    assert f"; {command}" in capfd.readouterr().out


def test_a_folder_that_cannot_be_read_is_one_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def unread(*_: Any, **__: Any) -> Any:
        raise OSError(5, "Input/output error", "/opt/lab")

    monkeypatch.setattr(node, "look", unread)
    assert node.run(Layout(tmp_path), node.Asked(quiet=True)) == 3
    line = capfd.readouterr().out
    assert line.startswith("NOT READY: node: The lab cannot be looked at: [Errno 5] Input/output")


def test_where_nobody_listens_the_code_is_told_all_the_same() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from verify import node; from verify.lab.layout import Layout\n"
        "sys.exit(node.run(Layout(Path('/nowhere')), node.Asked(quiet=True)))"
    )
    command = shlex.join([sys.executable, "-c", code])
    for closed in (">&-", ">/dev/full"):
        shell = f"exec {command} {closed}"
        done = subprocess.run(
            ["sh", "-c", shell], cwd=PROJECT, stderr=subprocess.PIPE, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (3, ""), closed


def test_the_gpu_is_computed_on_only_if_asked_for(tmp_path: Path) -> None:
    code = "import json, sys; print(json.dumps({'event': 'x', 'words': sys.argv[1:]}))"
    layout = checks_that(tmp_path, code)
    for workload in (False, True):
        (event,) = node_process.events(layout, workload=workload)
        assert ("--gpu-workload" in event["words"]) == workload


def test_a_container_without_keys_says_where_to_ask(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert node.run(InImage(tmp_path), node.Asked(quiet=True)) == 3
    assert "docker compose run --rm verifier invoke node.check" in capfd.readouterr().out


SCRIPT = """
import json, sys
from pathlib import Path
from verify import node_checks
found = node_checks.events(Path(sys.argv[1]), workload=json.loads(sys.argv[2]), gpu="NVIDIA GB10")
results = [it["result"] for it in found if it["event"] == "result"]
print(json.dumps({it["name"]: it["message"] for it in results if it["status"] == "not_run"}))
"""


def test_without_the_workload_a_gpus_checks_say_so() -> None:
    command = [sys.executable, "-c", SCRIPT, str(PROJECT / "labs"), "false"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    said = json.loads(done.stdout.splitlines()[-1])
    hidden = {name for name, message in said.items() if "--gpu-workload" in message}
    assert {"kernel_compiled", "gpu_memory_free", "code_for_gpu"} <= hidden
