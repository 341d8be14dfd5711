"""Asking a runner that may be killed on the way: nothing is lost, nothing is judged twice."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COURSES, Runner, running
from tests.verify.test_outcomes import GOOD, with_act
from verify import client
from verify.store import Store

CLIENTS, EACH = 4, 6
SLOW = GOOD.replace("return 7", "import time; time.sleep(0.1); return 7")


def submissions(count: int, exercise: str = SLOW) -> list[dict[str, Any]]:
    return [{"skill": "acts", "exercise": exercise.encode(), "trouble": None}] * count


def persist(runner: Runner, count: int, events: list[client.Event], patience: float) -> None:
    connect = functools.partial(client.connect, runner.socket)
    client.persist(connect, submissions(count), None, events.append, patience)


def test_no_job_is_lost_or_doubled_when_the_runner_is_killed_twice(tmp_path: Path) -> None:
    told: list[list[client.Event]] = [[] for _ in range(CLIENTS)]
    with running(COURSES / "outcomes", tmp_path) as runner:
        clients = [
            threading.Thread(target=persist, args=(runner, EACH, events, 60.0)) for events in told
        ]
        for thread in clients:
            thread.start()
        for killed_after in (4, 12):
            while sum(_skills(events) for events in told) < killed_after:
                time.sleep(0.02)
            runner.kill()
            runner.start()
        for thread in clients:
            thread.join(120)
            assert not thread.is_alive()
        finished = [job for job in _jobs(runner.results) if job[1] == "finished"]
    assert [_skills(events) for events in told] == [EACH] * CLIENTS
    jobs = [event["skill"]["job"] for events in told for event in events if _is_skill(event)]
    assert max(Counter(jobs).values()) == 1, "no verdict was given to two submissions"
    assert {job for job, _ in finished} == set(jobs), "none was judged to its end twice"
    assert all(event["skill"]["ready"] for events in told for event in events if _is_skill(event))
    assert any(event["event"] == "lost" for events in told for event in events)


def test_a_verdict_that_was_on_its_way_is_told_again_and_not_made_again(tmp_path: Path) -> None:
    with running(COURSES / "outcomes", tmp_path) as runner:
        keyed = [{**submissions(1)[0], "key": "mine"}]
        first: list[client.Event] = []
        second: list[client.Event] = []
        for events in (first, second):
            with client.connect(runner.socket) as channel:
                client.verify(channel, keyed, None, events.append)
        assert first[-1]["skill"]["job"] == second[-1]["skill"]["job"]
        assert first[-1]["skill"] == second[-1]["skill"]
        assert len(_jobs(runner.results)) == 1
        other = [{**keyed[0], "exercise": with_act("return x").encode()}]
        with client.connect(runner.socket) as channel:
            client.verify(channel, other, None, second.append)
        assert second[-1]["skill"]["job"] != first[-1]["skill"]["job"], "another file's verdict"


def test_a_runner_that_does_not_come_back_is_lost(tmp_path: Path) -> None:
    events: list[client.Event] = []
    with running(COURSES / "outcomes", tmp_path) as runner:
        threading.Timer(0.8, runner.kill).start()
        with pytest.raises(client.RunnerLost):
            persist(runner, 30, events, 1.0)
    assert [event["event"] for event in events].count("lost") == 1


def test_without_patience_nothing_is_waited_for(tmp_path: Path) -> None:
    with running(COURSES / "outcomes", tmp_path) as runner:
        threading.Timer(0.8, runner.kill).start()
        with pytest.raises(client.RunnerLost):
            persist(runner, 30, [], 0.0)


def test_where_no_runner_is_none_is_waited_for(tmp_path: Path) -> None:
    connect = functools.partial(client.connect, tmp_path / "runner.sock")
    with pytest.raises(client.NoRunner):
        client.persist(connect, submissions(1), None, lambda _event: None, 60.0)


def _is_skill(event: client.Event) -> bool:
    return bool(event["event"] == "skill")


def _skills(events: list[client.Event]) -> int:
    return sum(map(_is_skill, events))


def _jobs(results: Path) -> list[tuple[str, str | None]]:
    store = Store(results)
    jobs = [(job, store.state(job)) for job in store.jobs()]
    store.close()
    return jobs
