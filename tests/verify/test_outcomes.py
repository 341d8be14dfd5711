"""Every way an exercise can end, through the real runner: one clear line, the next job unharmed."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest

from tests.conftest import COURSES, Runner, alive, as_root, descendants, running
from verify.results import CheckResult

GOOD = "def act(x):\n    return x + 1\n\ndef other():\n    return 7\n"


def with_act(body: str, top: str = "") -> str:
    return f"import os, sys, time\n{top}\ndef act(x):\n    {body}\n\ndef other():\n    return 7\n"


def one(outcomes: Runner, exercise: str | bytes | None) -> CheckResult:
    """Return the verdict on `act`; an honest job afterwards must pass."""
    results = outcomes.verify("acts", exercise)
    after = outcomes.verify("acts", GOOD)
    assert {after[name].status for name in ("exercise", "acts", "acts_again")} == {"passed"}
    return results["acts"] if results["exercise"].status == "passed" else results["exercise"]


def test_passes(outcomes: Runner) -> None:
    results = outcomes.verify("acts", GOOD)
    assert [r.status for r in results.values()] == ["passed"] * 4 + ["not_run"]
    assert results["needs_a_gpu"].cause == "missing"
    assert results["needs_a_gpu"].message == "not run: no GPU"


def test_fails_with_its_hint(outcomes: Runner) -> None:
    result = one(outcomes, with_act("return x"))
    assert (result.status, result.cause) == ("failed", "wrong")
    assert (result.misconception, result.hint) == ("unchanged", "Add one.")


def test_advice_is_shown_and_does_not_fail_the_skill(outcomes: Runner) -> None:
    result = outcomes.verify("acts", GOOD.replace("7", "8"))["others"]
    assert (result.status, result.level, result.evidence) == ("failed", "advice", "probe")


def test_what_it_prints_is_told_without_control_characters(outcomes: Runner) -> None:
    from verify import client

    told: list[str] = []
    exercise = with_act("print('x =', x, '\\x1b[31m red', flush=True); os._exit(0)").encode()
    with client.connect(outcomes.socket) as channel:
        submission = {"skill": "acts", "exercise": exercise, "trouble": None}
        client.verify(
            channel,
            [submission],
            seed=1,
            on_event=lambda e: told.append(e["skill"]["output"]) if e["event"] == "skill" else None,
        )
    (output,) = told
    assert output.startswith("x = 1.")
    assert "\x1b" not in output
    assert " red" in output


def test_noise_changes_nothing(outcomes: Runner) -> None:
    noise = "print('x' * 100_000); os.write(2, b'y' * 100_000); return x + 1"
    assert one(outcomes, with_act(noise)).status == "passed"


def test_closed_and_replaced_output_changes_nothing(outcomes: Runner) -> None:
    body = "sys.stdout.close(); sys.stderr = None; os.close(1); return x + 1"
    assert one(outcomes, with_act(body)).status == "passed"


@pytest.mark.parametrize(
    ("body", "cause", "told"),
    [
        ("while True: pass", "timeout", "does not end"),
        ("time.sleep(60)", "timeout", "does not end"),
        ("os.kill(os.getpid(), 19)", "timeout", "does not end"),
        ("sys.exit(0)", "crashed", "exit"),
        ("os._exit(0)", "crashed", "exited with status 0"),
        ("raise KeyboardInterrupt", "crashed", "KeyboardInterrupt"),
        ("os.kill(os.getpid(), 11)", "crashed", "SIGSEGV"),
        ("os.kill(os.getpid(), 9)", "memory", "killed by the system"),
        ("os.abort()", "crashed", "SIGABRT"),
        ("return act(x)", "crashed", "RecursionError"),
        ("return bytearray(8 * 2**30)", "memory", "memory"),
        ("import torch; return torch.zeros(2**33)", "memory", "memory"),
        ("l = []\n    while True: l.append(bytes(2**24))", "memory", "memory"),
        ("while True: print('x' * 2**16)", "output", "printed more than"),
        ("open('f', 'wb').write(bytes(2**24)); return x", "output", "more to files"),
        ("os.close(3); return x + 1", "crashed", ""),
        ("os.write(3, b'\\xff' * 64); return x + 1", "protocol", "no message"),
        ("os.write(3, b'\\0\\0\\0\\x01N'); return x + 1", "protocol", "no answer"),
        ("import torch; return torch.zeros(20_000_000)", "protocol", "cannot be sent"),
        ("raise type('\\x1b[31mE', (Exception,), {})('\\x1b[2J<b>')", "crashed", "<b>"),
        ("return numpy.float64(x)", "crashed", "nothing in exercise.py binds `numpy`"),
    ],
)
def test_an_end_is_told_as_what_it_is(outcomes: Runner, body: str, cause: str, told: str) -> None:
    result = one(outcomes, with_act(body))
    assert (result.status, result.cause) == ("failed", cause), result.message
    assert told in result.message
    assert result.message.isprintable()


def test_what_hangs_is_asked_once(outcomes: Runner) -> None:
    results = outcomes.verify("acts", with_act("time.sleep(60)"))
    assert results["acts"].cause == "timeout"
    assert (results["acts_again"].status, results["acts_again"].cause) == ("not_run", "waits")
    assert results["others"].status == "passed", "another function is still judged"


def test_what_crashes_once_is_asked_again(outcomes: Runner) -> None:
    results = outcomes.verify("acts", with_act("os._exit(3)"))
    assert results["acts"].cause == results["acts_again"].cause == "crashed"
    assert results["others"].status == "passed"


@pytest.mark.parametrize(
    ("exercise", "told"),
    [
        (None, "is not there"),
        (b"", "is empty"),
        (b"  \n\n", "is empty"),
        (b"def act(x)\n    return x\n", "does not parse: line 1"),
        (b"def act(x):\n    return x\n!pip install torch\n", "line 3"),
        (b"\x00\x01\x02 binary", "null bytes"),
        (b"\xff\xfe\xfa", "does not parse"),
        (b"(" * 5000, "does not parse"),
        (b"x = " + b"-" * 100_000 + b"1\n", "cannot be read"),
        (b"#" * (1024 * 1024 + 1), "larger than"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    outcomes: Runner, exercise: bytes | None, told: str
) -> None:
    results = outcomes.verify("acts", exercise)
    first, *others = results.values()
    assert (first.name, first.status) == ("exercise", "failed")
    assert told in first.message
    assert first.message.isprintable()
    assert {(r.status, r.cause) for r in others} == {("not_run", "waits")}


def test_a_missing_function_is_named_with_its_signature(outcomes: Runner) -> None:
    results = outcomes.verify("acts", "def act(x):\n    return x + 1\n")
    assert results["acts"].status == "passed"
    assert "does not define `other`. Write: def other() -> int" in results["others"].message


def test_a_constant_that_cannot_be_made_harms_only_what_needs_it(outcomes: Runner) -> None:
    results = outcomes.verify(
        "acts", "K = 1 / 0\ndef act(x): return x + K\ndef other(): return 7\n"
    )
    assert "ZeroDivisionError" in results["acts"].message
    assert "(exercise.py, line 1: `K = 1 / 0`)" in results["acts"].message
    assert results["others"].status == "passed"


def test_a_broken_check_is_an_error_and_never_the_learners(tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    solution = (COURSES / "broken" / "broken" / "solution.py").read_bytes()
    with running(COURSES / "broken", tmp_path_factory.mktemp("broken")) as runner:
        results = runner.verify("broken", solution)
        assert results["broken"].status == "error"
        assert "ZeroDivisionError" in results["broken"].message
        assert results["doubles"].status == "passed"


def test_a_directory_deeper_than_python_can_remove_is_removed(outcomes: Runner) -> None:
    deep = "for i in range(2000): os.mkdir('d'); os.chdir('d')\n    return x + 1"
    assert one(outcomes, with_act(deep)).status == "passed"
    assert outcomes.process is not None
    assert not list(Path(tempfile.gettempdir()).glob(f"verify-{outcomes.process.pid}-*"))


def test_an_empty_message_and_a_borrowed_name_are_a_failure_in_words(outcomes: Runner) -> None:
    top = "class MissingFunction(Exception): pass"
    result = one(outcomes, with_act("raise MissingFunction('')", top))
    assert result.status == "failed"
    assert result.message


def test_text_that_xml_cannot_hold_is_left_out(outcomes: Runner) -> None:
    result = one(outcomes, with_act("raise ValueError('a\\uffff\\ufffeb')"))
    assert "ValueError: ab" in result.message


def test_what_an_exercise_leaves_running_is_ended(outcomes: Runner) -> None:
    daemon = """if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(1)
        os._exit(0)
    return x + 1"""
    assert outcomes.process is not None
    before = set(descendants(outcomes.process.pid))
    assert one(outcomes, with_act(daemon)).status == "passed"
    time.sleep(0.2)
    left = [p for p in descendants(outcomes.process.pid) if p not in before and alive(p)]
    assert left == []


@pytest.mark.skipif(not as_root(), reason="learners get a user of their own only under root")
def test_under_root_learner_code_is_not_root(outcomes: Runner) -> None:
    result = one(outcomes, with_act("raise ValueError(os.getuid(), os.getgid(), os.getgroups())"))
    assert "(59" in result.message
    assert "[]" in result.message
