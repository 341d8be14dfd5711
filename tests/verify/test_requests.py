"""What a client may ask for, and what becomes of a submission that it asks for again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COURSES, Runner
from tests.verify.test_outcomes import GOOD, with_act
from verify import client, requests
from verify.requests import Refused
from verify.store import Store
from verify.submit import MAX_EXERCISE

OUTCOMES = COURSES / "outcomes"
MACHINE = COURSES / "machine"


def wanted(folder: Path = OUTCOMES, **item: Any) -> requests.Wanted:
    told = {"skill": "acts", "exercise": b"x", **item}
    (found,) = requests.submissions({"skills": [told]}, folder)
    return found


@pytest.mark.parametrize("key", [None, "k", "k" * 64, "\0", "é \U0001f600"])
def test_a_key_is_a_short_text_or_none(key: str | None) -> None:
    assert wanted(key=key).key == key


@pytest.mark.parametrize("key", ["", "k" * 65, 1, b"k", ["k"], True])
def test_anything_else_is_no_key(key: object) -> None:
    with pytest.raises(Refused, match="a key is a text of 1 to 64"):
        wanted(key=key)


def test_a_lab_without_an_exercise_keeps_its_key_and_no_file() -> None:
    found = wanted(MACHINE, skill="sound", exercise=b"import os", trouble="no file", key="k")
    assert (found.key, found.exercise, found.trouble) == ("k", None, None)
    with pytest.raises(Refused, match="a key"):
        wanted(MACHINE, skill="sound", key="")


def test_a_file_that_is_too_large_is_trouble_and_not_kept() -> None:
    assert wanted(exercise=bytes(MAX_EXERCISE)).trouble is None
    found = wanted(exercise=bytes(MAX_EXERCISE + 1))
    assert found.exercise is None
    assert "larger than" in str(found.trouble)


def test_so_many_skills_and_no_more() -> None:
    item = {"skill": "acts", "exercise": b"x"}
    assert len(requests.submissions({"skills": [item] * 100}, OUTCOMES)) == 100
    with pytest.raises(Refused, match="may name 100"):
        requests.submissions({"skills": [item] * 101}, OUTCOMES)


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_a_seed_is_taken_as_it_is(seed: int) -> None:
    assert requests.seed({"seed": seed}) == seed
    assert requests.seed({}) is None


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, "1", True])
def test_anything_else_is_no_seed(seed: object) -> None:
    with pytest.raises(Refused, match="a seed"):
        requests.seed({"seed": seed})


def asked(runner: Runner, key: str, exercise: str = GOOD, seed: int | None = None) -> Any:
    """Return the events of one submission under a key."""
    events: list[client.Event] = []
    item = {"skill": "acts", "exercise": exercise.encode(), "trouble": None, "key": key}
    with client.connect(runner.socket) as channel:
        client.verify(channel, [item], seed, events.append)
    return events


def test_what_was_judged_to_its_end_is_told_again_whole(outcomes: Runner) -> None:
    printing = with_act("print('seen'); return x + 1")
    first, second = (asked(outcomes, "told again", printing) for _ in range(2))
    assert first[-1]["skill"] == second[-1]["skill"], "job, checks and output"
    assert first[-1]["skill"]["output"].startswith("seen")
    told = [[event for event in events if event["event"] == "result"] for events in (first, second)]
    assert told[0] == told[1] != []
    assert not [event for event in second if event["event"] == "started"], "nothing was run"


def test_what_was_interrupted_is_judged_again(outcomes: Runner) -> None:
    slow = with_act("time.sleep(0.6); return x + 1")
    item = {"skill": "acts", "exercise": slow.encode(), "trouble": None, "key": "left"}
    with client.connect(outcomes.socket) as channel:
        channel.send({"op": "verify", "protocol": 1, "skills": [item]})
        while (event := channel.receive(20))["event"] != "job":  # type: ignore[index, call-overload]
            pass
        left = event["job"]  # type: ignore[index, call-overload]
    store = Store(outcomes.results)
    deadline = time.monotonic() + 20
    while store.state(left) != "interrupted":  # type: ignore[arg-type]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    store.close()
    again = asked(outcomes, "left", slow)[-1]["skill"]
    assert again["job"] != left
    assert again["ready"]
    assert asked(outcomes, "left", slow)[-1]["skill"]["job"] == again["job"]


def test_practice_is_judged_each_time(outcomes: Runner) -> None:
    jobs = {asked(outcomes, "practice", seed=3)[-1]["skill"]["job"] for _ in range(2)}
    assert len(jobs) == 2
    counts = asked(outcomes, "practice")[-1]["skill"]["job"]
    again = asked(outcomes, "practice", seed=3)[-1]["skill"]["job"]
    assert len({*jobs, counts, again}) == 4
    assert asked(outcomes, "practice")[-1]["skill"]["job"] == counts, "it is still what counts"
