"""The resident runner: its socket, hostile clients, and what survives when it is killed."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import COURSES, Runner, alive, descendants, running
from tests.verify.test_outcomes import GOOD, with_act
from verify import client, supervisor
from verify.channel import Channel, ChannelError, pair
from verify.code_hash import code_hash
from verify.endpoint import listening
from verify.store import Store

CORES = len(os.sched_getaffinity(0))  # so many jobs are judged at a time


def raw(runner: Runner) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(runner.socket))
    return connection


def test_it_says_who_it_is(outcomes: Runner) -> None:
    told = client.hello(outcomes.socket)
    assert outcomes.process is not None
    assert told["pid"] == outcomes.process.pid
    assert told["code"] == code_hash()
    assert told["sealing"] == "full", "on a kernel as new as CI's"
    assert {"limits", "files", "system-calls"} <= set(told["walls"])


def test_its_socket_is_for_its_user_alone(outcomes: Runner) -> None:
    assert stat.S_IMODE(outcomes.socket.stat().st_mode) == 0o600


def test_the_self_test_is_a_whole_job(outcomes: Runner) -> None:
    passed, told = client.selftest(outcomes.socket)
    assert passed
    assert "the solution of `acts` passed" in told


@pytest.mark.parametrize(
    "request_",
    [
        None,
        [],
        {},
        {"op": "verify"},
        {"op": "verify", "protocol": 99, "skills": []},
        {"op": "verify", "protocol": 1, "skills": []},
        {"op": "verify", "protocol": 1, "skills": [1]},
        {"op": "verify", "protocol": 1, "skills": [{"skill": "../acts", "exercise": b""}]},
        {"op": "verify", "protocol": 1, "skills": [{"skill": "acts"}]},
        {"op": "verify", "protocol": 1, "skills": [{"skill": "acts", "exercise": "text"}]},
        {"op": "verify", "protocol": 1, "skills": {"skill": "acts"}},
        {"op": "verify", "protocol": 1, "skills": 5},
        {"op": "verify", "protocol": 1, "skills": [{"skill": [], "exercise": b""}]},
        {"op": "verify", "protocol": 1, "seed": -1, "skills": [{"skill": "acts", "exercise": b""}]},
        {
            "op": "verify",
            "protocol": 1,
            "seed": "1",
            "skills": [{"skill": "acts", "exercise": b""}],
        },
        {"op": "stop", "protocol": 1},
    ],
)
def test_a_wrong_request_is_refused(outcomes: Runner, request_: object) -> None:
    with raw(outcomes) as connection:
        channel = Channel(connection)
        channel.send(request_)  # type: ignore[arg-type]
        answer = channel.receive(5)
    assert isinstance(answer, dict)
    assert answer["event"] == "refused"


@pytest.mark.parametrize(
    "sent", [b"", b"\0", b"\xff\xff\xff\xff", b"\0\0\0\x05hello", b"GET / HTTP/1.1\r\n\r\n"]
)
def test_a_client_that_talks_nonsense_or_leaves_harms_nobody(outcomes: Runner, sent: bytes) -> None:
    with raw(outcomes) as connection:
        connection.sendall(sent)
    assert outcomes.verify("acts", GOOD)["acts"].status == "passed"


def test_descriptors_that_a_client_sends_are_not_collected(outcomes: Runner) -> None:
    assert outcomes.process is not None
    held = Path(f"/proc/{outcomes.process.pid}/fd")
    before = len(list(held.iterdir()))
    with raw(outcomes) as connection, Path(__file__).open() as file:
        connection.sendall(b"\0\0\x03\xe8")
        with contextlib.suppress(OSError):
            for _ in range(50):
                socket.send_fds(connection, [b"x"], [file.fileno()] * 4)
        time.sleep(0.3)
        assert len(list(held.iterdir())) < before + 10
    assert outcomes.verify("acts", GOOD)["acts"].status == "passed"


def test_silent_clients_do_not_keep_others_out(outcomes: Runner) -> None:
    silent = [raw(outcomes) for _ in range(8)]
    assert outcomes.verify("acts", GOOD)["acts"].status == "passed"
    for connection in silent:
        connection.close()


def test_a_client_that_leaves_keeps_its_results_and_nobody_waiting(tmp_path: Path) -> None:
    with running(COURSES / "outcomes", tmp_path) as runner:
        with client.connect(runner.socket) as channel:
            hanging = with_act("return x + 1").replace("return 7", "time.sleep(60)").encode()
            skill = {"skill": "acts", "exercise": hanging}
            channel.send({"op": "verify", "protocol": 1, "skills": [skill] * (CORES + 1)})
            job = _job(channel)
            _until(lambda: _is_started(channel.receive(5), "others"))
        store = Store(runner.results)
        _until(lambda: store.state(job) == "interrupted", seconds=5)
        assert [r.name for r in store.results(job)] == ["exercise", "acts", "acts_again"]
        assert runner.verify("acts", GOOD)["acts"].status == "passed"
        assert len(store.jobs()) == CORES + 1, "the last skill of the one who left was not begun"


def _is_started(event: object, check: str) -> bool:
    return isinstance(event, dict) and (event["event"], event.get("check")) == ("started", check)


def test_a_client_that_asks_and_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be told a part of a message, and keep its place for every event."""

    class Talkative:
        def judge(self, client: Channel, turns: object) -> Iterator[dict[str, str]]:
            for _ in range(100):
                yield {"event": "result", "text": "x" * 100_000}

    monkeypatch.setattr(supervisor, "_TELL_SECONDS", 0.2)
    serves = object.__new__(supervisor.Supervisor)
    serves._court = Talkative()  # type: ignore[assignment]
    serves._labs = COURSES / "outcomes"
    serves._environment = {}  # type: ignore[assignment]
    channel, theirs = pair()
    asks = Channel(theirs)
    asks.send({"op": "selftest", "protocol": 1})
    began = time.monotonic()
    serves.serve(channel)
    assert time.monotonic() - began < 5, "it was not waited for a hundred times"
    channel.close()
    told = []
    with contextlib.suppress(ChannelError):
        while True:
            told.append(asks.receive(1))
    assert len(told) < 100
    assert all(isinstance(event, dict) for event in told), "nothing follows half a message"


def test_without_room_for_a_thread_or_a_descriptor_a_client_is_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the runner goes on: learner code may have used up what there is, for a while."""
    serves = object.__new__(supervisor.Supervisor)
    serves._clients = threading.BoundedSemaphore(1)
    answers: Iterator[object] = iter(["no thread", "no descriptor", "fine"])
    come: list[str] = []

    def begin(self: object, connection: socket.socket) -> None:
        come.append(str(next(answers)))
        if come[-1] != "fine":
            raise RuntimeError("can't start new thread")
        connection.close()
        raise SystemExit

    def is_below_us(connection: socket.socket) -> bool:
        if len(come) == 1:
            come.append(str(next(answers)))
            raise OSError(24, "Too many open files")
        return False

    class Thread:
        def __init__(self, args: tuple[socket.socket], **how: object) -> None:
            self.connection = args[0]

        def start(self) -> None:
            begin(self, self.connection)

    path = tmp_path / "runner.sock"
    monkeypatch.setattr(supervisor, "_is_below_us", is_below_us)
    monkeypatch.setattr(supervisor.threading, "Thread", Thread)
    clients = []
    with listening(path) as server:
        for _ in range(3):
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].connect(str(path))
        for _ in range(2):
            serves._clients.acquire()
            with contextlib.suppress(SystemExit):
                serves._begin(serves._accept(server))
    for client_ in clients:
        client_.settimeout(5)
        assert client_.recv(1) == b"", "hung up"
        client_.close()
    assert come == ["no thread", "no descriptor", "fine"]


def test_clients_are_served_beside_each_other_and_after_each_other(outcomes: Runner) -> None:
    answers: list[str] = []

    def ask() -> None:
        answers.append(outcomes.verify("acts", GOOD)["acts"].status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["passed"] * 4


def test_a_seed_repeats_the_inputs(outcomes: Runner) -> None:
    wrong = with_act("return -x")
    first, second = (outcomes.verify("acts", wrong, seed=11)["acts"].message for _ in range(2))
    assert first == second
    fresh = {outcomes.verify("acts", wrong)["acts"].message for _ in range(3)}
    assert len(fresh) == 3


def test_a_killed_runner_keeps_what_was_decided_and_leaves_nothing_running(tmp_path: Path) -> None:
    with running(COURSES / "outcomes", tmp_path) as runner:
        assert runner.process is not None
        with client.connect(runner.socket) as channel:
            hanging = with_act("time.sleep(60)").encode()
            skill = {"skill": "acts", "exercise": hanging}
            channel.send({"op": "verify", "protocol": 1, "skills": [skill]})
            job = _job(channel)
            while channel.receive(5)["event"] != "started":  # type: ignore[index, call-overload]
                pass
            family = descendants(runner.process.pid)
            assert len(family) == 4, "zygote, judge, keeper and learner"
            runner.kill()
            with pytest.raises(ChannelError):
                _until(lambda: channel.receive(5) is None)
        _until(lambda: not any(alive(pid) for pid in family))
        runner.start()
        (left,) = client.hello(runner.socket)["unfinished"]
        assert job[:8] in left
        store = Store(runner.results)
        assert store.state(job) == "interrupted"
        assert [r.name for r in store.results(job)] == ["exercise"]
        assert runner.verify("acts", GOOD)["acts"].status == "passed"


def test_a_zygote_that_died_is_replaced(tmp_path: Path) -> None:
    with running(COURSES / "outcomes", tmp_path) as runner:
        assert runner.process is not None
        (zygote,) = descendants(runner.process.pid)
        os.kill(zygote, 9)
        assert runner.verify("acts", GOOD)["acts"].status == "passed"
        time.sleep(0.5)
        assert runner.verify("acts", GOOD)["acts"].status == "passed", "it outlives its first job"


def test_it_stops_when_told_and_takes_everything_with_it(tmp_path: Path) -> None:
    with running(COURSES / "outcomes", tmp_path) as runner:
        assert runner.process is not None
        family = descendants(runner.process.pid)
        runner.stop()
        assert not any(alive(pid) for pid in family)
        assert not runner.socket.exists()
        with pytest.raises(client.NoRunner):
            client.hello(runner.socket)


def test_its_socket_may_lie_deeper_than_a_socket_address_reaches() -> None:
    with tempfile.TemporaryDirectory() as folder:
        deep = Path(folder, *["a-rather-long-folder-name"] * 6)
        deep.mkdir(parents=True)
        assert len(str(deep)) > 107
        with running(COURSES / "outcomes", deep) as runner:
            assert runner.verify("acts", GOOD)["acts"].status == "passed"


def test_a_folder_without_a_runner_has_none(tmp_path: Path) -> None:
    with pytest.raises(client.NoRunner), client.connect(tmp_path / "runner.sock"):
        pass
    with pytest.raises(client.NoRunner), client.connect(tmp_path / "nowhere" / "runner.sock"):
        pass


def _job(channel: Channel) -> str:
    while True:
        event = channel.receive(5)
        assert isinstance(event, dict)
        if event["event"] == "job":
            return str(event["job"])


def _until(true: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)
