"""The known attacks, each as a learner's file, in both modes: what must happen, and to whom.

Nothing that the attack wanted has happened, its end is reported as what it was, no process and no
file of it is left, and the next honest job is unharmed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.attacks.conftest import Den
from verify.results import CheckResult

FILES = Path(__file__).parent / "files"
PRELUDE = (Path(__file__).parent / "prelude.py").read_text()
HONEST = "def act(x):\n    return x + 1\n\ndef other():\n    return 7\n"

MUST = {
    "01_endless_loop": "timeout",
    "02_deaf_to_signals": "timeout",
    "02_stops_itself": "timeout",
    "03_takes_all_memory": "memory",
    "04_fork_bomb": "timeout",
    "05_daemon": "passes",
    "06_thread_bomb": "bounded",
    "07_fills_the_disk": "output",
    "07_fills_the_disk_slowly": "output",
    "07_fills_shared_memory": "output",
    "07_makes_many_files": "output",
    "07_sparse_file": "denied",
    "08_endless_output": "output",
    "12_prints_a_verdict_and_exits": "crashed",
    "12_leaves_by_atexit": "crashed",
    "15_kills_everybody": "passes",
    "16_lies_about_equality": "wrong",
    "16_walks_the_frames": "denied",
    "19_sends_a_pickle": "protocol",
    "20_lying_header": "protocol",
    "20_deep_and_huge_answer": "wrong",
    "20_not_a_number": "wrong",
    "20_infinite": "wrong",
    "20_a_tensor_of_another_kind": "wrong",
    "21_answers_from_behind": "wrong or protocol",
    "23_leaves_a_message": "left",
    "40_patches_the_codec": "wrong",
    "41_audit_hook": "passes",
    "42_finalizers": "wrong or protocol",
    "43_threads_that_stay": "wrong or protocol",
    "44_signal_handlers": "wrong or protocol",
    "45_lying_tensor": "wrong or crashed",
    "46_escape_sequences": "crashed",
    "47_names_that_lie": "crashed",
    "48_raises_our_own_errors": "crashed",
    "49_closes_the_channel": "crashed",
    "50_holds_the_judge_up": "timeout",
    "51_descriptors_by_the_hundred": "crashed or protocol",
}
"""How each must end. One that is not named is denied: it tells its tries, none got through."""

KEYS = ("solution.py", "checks.py", "misconceptions.py", "scene.py", "lab.toml")


def attack(den: Den, name: str) -> dict[str, CheckResult]:
    prelude = PRELUDE.replace("PLACES = {}", f"PLACES = {den.places()!r}")
    return den.verify("target", f"{prelude}\n{(FILES / f'{name}.py').read_text()}")


@pytest.mark.parametrize("name", sorted(file.stem for file in FILES.glob("*.py")))
def test_it_ends_as_it_must_and_the_next_honest_job_is_unharmed(den: Den, name: str) -> None:
    keys = {part: (den.labs / "target" / part).read_bytes() for part in KEYS}
    results = attack(den, name)
    verdict, must = results["acts"], MUST.get(name, "denied")
    if must == "passes":
        assert verdict.status == "passed"
    else:
        assert verdict.status == "failed", verdict
        assert "REACHED" not in verdict.message, verdict
    if must == "denied":
        assert re.search(r"\d+ tries, reached 0: ", verdict.message), verdict
    elif must == "bounded":
        count = int(re.search(r"(\d+) threads", verdict.message)[1])  # type: ignore[index]
        assert 0 < count < 300
    elif must == "left":
        assert "'left'" in verdict.message, verdict
    elif must != "passes":
        assert verdict.cause in must.split(" or "), verdict
    assert all(result.status != "error" for result in results.values()), results
    assert den.rest() <= 1, "a process of the job is left"
    assert {part: (den.labs / "target" / part).read_bytes() for part in KEYS} == keys
    assert list(den.outside.iterdir()) == []
    honest = den.verify("target", HONEST)
    assert {result.status for result in honest.values()} == {"passed"}, honest


def test_what_one_job_leaves_the_next_does_not_find(den: Den) -> None:
    look = """
def act(x):
    places = ("/tmp", "/var/tmp", "/dev/mqueue", "/dev/shm")
    told(*(tried(lambda: open(f"{place}/verify-attack")) for place in places))
"""
    attack(den, "23_leaves_a_message")
    found = den.verify("target", PRELUDE + look)["acts"]
    assert "4 tries, reached 0: " in found.message


def test_messages_hold_no_control_character_and_no_markup_of_ours(den: Den) -> None:
    for name in ("46_escape_sequences", "47_names_that_lie"):
        message = attack(den, name)["acts"].message
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", message), message


def test_two_runs_of_the_same_file_are_asked_different_questions(den: Den) -> None:
    ask = "def act(x):\n    raise ValueError(repr(x))\n\ndef other():\n    return 7\n"
    assert den.verify("target", ask)["acts"].message != den.verify("target", ask)["acts"].message


def test_the_runner_says_that_learners_are_fully_sealed(den: Den) -> None:
    from verify import client

    told = client.hello(den.socket)
    assert told["sealing"] == "full"
    assert ("user" in told["walls"]) == (den.mode == "F")
