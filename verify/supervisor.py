"""The runner: takes submissions over a Unix socket, has them judged, keeps and tells the results.

``python -I -m verify.supervisor --socket PATH`` stays; ``--client FD`` serves one client and ends.
A client may be hostile: what it sends is bounded in size and time, and it learns results only.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import queue
import secrets
import signal
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec

from verify import describe, privileges, users, walls
from verify.channel import PROTOCOL, Channel, ChannelError, refuse_descriptors
from verify.endpoint import listening
from verify.job import Abandoned, Job, Slot, Submission, error_result
from verify.labs import Lab, LabError, find_labs
from verify.leftovers import remove_leftovers
from verify.pids import descendants
from verify.plain import Plain
from verify.processes import Family, ZygoteError
from verify.results import CheckResult, SkillResult, is_ready
from verify.store import Store
from verify.submit import MAX_EXERCISE
from verify.text import clean_lines

_REQUEST_SECONDS: Final = 10.0
_REQUEST_BYTES: Final = 16 * 1024 * 1024
_CLIENTS: Final = 32
_KEY: Final = 64  # characters of a client's own name for a submission
_SKILLS: Final = 100  # in one request: more would only fill the results
_WAITING_SECONDS: Final = 1.0
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid; unix(7), SO_PEERCRED

log = logging.getLogger("verify.supervisor")


class Refused(Exception):
    """The request is not one that can be served; the message says why."""


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What a request asks to be judged; ``key`` is the client's own name for it, see `Store`."""

    lab: Lab
    exercise: bytes | None
    trouble: str | None = None
    key: str | None = None


class _Turn:
    """One submission of a request, and what is to be told of it, in order."""

    def __init__(self, wanted: _Wanted, seed: int, *, practice: bool) -> None:
        self.lab = wanted.lab
        self.submission = Submission(wanted.exercise, wanted.trouble, seed)
        self.key = wanted.key
        self.practice = practice
        self._told: queue.SimpleQueue[dict[str, Plain] | BaseException | None]
        self._told = queue.SimpleQueue()

    def tell(self, event: dict[str, Plain]) -> None:
        """Add an event."""
        self._told.put(event)

    def end(self, error: BaseException | None) -> None:
        """Add nothing more; ``error`` is what ended it too early."""
        self._told.put(error)

    def events(self) -> Iterator[dict[str, Plain]]:
        """Yield the events as they come; raise what ended the turn too early."""
        while (told := self._told.get()) is not None:
            if isinstance(told, BaseException):
                raise told
            yield told


class Supervisor:
    """Serves clients, one thread each, and judges as many jobs at a time as it has slots."""

    def __init__(self, labs: Path, results: Path, runtime: str) -> None:
        self._labs = labs
        self._store = Store(results)
        self._unfinished = self._store.interrupt_running()
        for left in self._unfinished:
            log.warning("left unfinished by a runner that was killed: %s", left)
        self._users = users.claim(_slots())
        found = walls.look(user=bool(self._users.uids), reason=self._users.reason)
        self._environment = describe.environment(runtime, found)
        self._code = describe.code_hash()  # as it was when this process began
        self._slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for uid in self._users.uids or [None] * _slots():
            self._slots.put(Slot(uid, found))
        self._clients = threading.BoundedSemaphore(_CLIENTS)
        self._family = Family()
        remove_leftovers(self._family)

    def start(self) -> None:
        """Start the process that jobs are forked from."""
        self._family.start()

    def stop(self) -> None:
        """End every child and close the results."""
        self._family.stop()
        self._store.close()

    def listen(self, path: Path) -> None:
        """Serve clients at ``path`` until the process is told to stop."""
        with listening(path) as server:
            log.info("listening on %s", path)
            while True:
                self._clients.acquire()
                connection = self._accept(server)
                threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def _accept(self, server: socket.socket) -> socket.socket:
        while True:
            try:
                connection, _ = server.accept()
            except OSError as error:  # out of descriptors, say: others will give some back
                log.warning("a client could not be accepted: %s", error)
                time.sleep(0.1)
            else:
                if _is_below_us(connection):
                    connection.close()  # learner code that has reached the socket
                    continue
                refuse_descriptors(connection)
                return connection

    def _serve_one(self, connection: socket.socket) -> None:
        try:
            self.serve(Channel(connection))
        finally:
            connection.close()
            self._clients.release()

    def serve(self, client: Channel) -> None:
        """Answer one client's request."""
        try:
            told = client.receive(_REQUEST_SECONDS, _REQUEST_BYTES)
            self._answer(client, told)
        except Abandoned:
            log.info("a client left before its verification was done")
        except Refused as refusal:
            self._tell(client, {"event": "refused", "message": str(refusal)})
        except ChannelError as error:
            log.info("a client was dropped: %s", error)
            self._tell(client, {"event": "refused", "message": str(error)})
        except Exception:
            log.exception("a request failed")
            self._tell(client, {"event": "refused", "message": "the runner failed; see its log"})

    def _answer(self, client: Channel, told: Plain) -> None:
        if not isinstance(told, dict) or told.get("protocol") != PROTOCOL:
            raise Refused(
                f"this runner speaks protocol {PROTOCOL}; update the client or the runner"
            )
        if told.get("op") == "hello":
            self._tell(client, {"event": "hello", **self._hello()})
        elif told.get("op") == "selftest":
            self._verify(client, [self._selftest()], seed=None, practice=True)
        elif told.get("op") == "verify":
            self._verify(client, self._wanted(told), seed=_seed(told))
        else:
            raise Refused("an unknown request")

    def _hello(self) -> dict[str, Plain]:
        return {
            "protocol": PROTOCOL,
            "code": self._code,
            "pid": os.getpid(),
            "sealing": self._environment.sealing,
            "walls": list(self._environment.walls),
            "unfinished": list(self._unfinished),
        }

    def _wanted(self, told: dict[str, Any]) -> list[_Wanted]:
        """Return the labs, files and troubles that a request names."""
        labs = {lab.skill: lab for lab in find_labs(self._labs)}
        wanted = []
        skills = told.get("skills")
        if isinstance(skills, list) and len(skills) > _SKILLS:
            raise Refused(f"a request may name {_SKILLS} skills")
        for item in skills if isinstance(skills, list) else []:
            if not isinstance(item, dict) or str(item.get("skill")) not in labs:
                raise Refused("an unknown skill")
            exercise, trouble = item.get("exercise"), item.get("trouble")
            if not isinstance(exercise, bytes | None) or not isinstance(trouble, str | None):
                raise Refused("an exercise that is no file")
            if not labs[item["skill"]].exercise:
                exercise = trouble = None
            elif exercise is None and trouble is None:
                raise Refused("an exercise without a file")
            if exercise is not None and len(exercise) > MAX_EXERCISE:
                exercise, trouble = None, f"exercise.py is larger than {MAX_EXERCISE} bytes."
            wanted.append(_Wanted(labs[item["skill"]], exercise, trouble, _key(item)))
        if not wanted:
            raise Refused("no skill was named")
        return wanted

    def _selftest(self) -> _Wanted:
        """Return the first exercise with its own solution: what must pass where all works."""
        labs = [lab for lab in find_labs(self._labs) if lab.exercise]
        if not labs:
            raise Refused(f"there is no exercise in {self._labs}")
        return _Wanted(labs[0], (labs[0].folder / "solution.py").read_bytes())

    def _verify(
        self,
        client: Channel,
        wanted: list[_Wanted],
        seed: int | None,
        *,
        practice: bool = False,
    ) -> None:
        drawn = secrets.randbits(48) if seed is None else seed  # after the files were frozen
        environment = msgspec.to_builtins(self._environment)
        self._tell(client, {"event": "environment", "seed": drawn, "environment": environment})
        turns = [_Turn(it, drawn, practice=practice or seed is not None) for it in wanted]
        with ThreadPoolExecutor(min(len(turns), _slots())) as pool:
            for turn in turns:
                pool.submit(self._take_turn, client, turn)
            try:
                for turn in turns:  # what is judged beside the first is told after it
                    for event in turn.events():
                        self._tell(client, event)
            except Abandoned:
                pool.shutdown(cancel_futures=True)
                raise
        self._tell(client, {"event": "done"})

    def _take_turn(self, client: Channel, turn: _Turn) -> None:
        """Judge one submission as soon as there is a slot for it."""
        try:
            skill = self._judged_before(turn)
            if skill is None:
                with self._slot(client, turn) as slot:
                    skill = self._judge(client, turn, slot)
            turn.tell({"event": "skill", "skill": msgspec.to_builtins(skill)})
        except BaseException as error:  # noqa: BLE001 - raised again where the client is told
            turn.end(error)
        else:
            turn.end(None)

    @contextlib.contextmanager
    def _slot(self, client: Channel, turn: _Turn) -> Iterator[Slot]:
        """Wait until there is a slot; the client is told that it waits."""
        while True:
            try:
                slot = self._slots.get(timeout=_WAITING_SECONDS)
            except queue.Empty:
                turn.tell({"event": "waiting"})
                if client.gone():
                    raise Abandoned from None
            else:
                break
        try:
            if client.gone():
                raise Abandoned
            yield slot
        finally:
            self._slots.put(slot)

    def _judged_before(self, turn: _Turn) -> SkillResult | None:
        """Tell again what was decided of a submission that a client asks for a second time."""
        submission = turn.submission
        if turn.key is None or turn.practice:
            return None
        found = self._store.finished(turn.key, turn.lab.skill, submission.sha256)
        if found is None:
            return None
        identity, output = found
        turn.tell(
            {"event": "job", "skill": turn.lab.skill, "title": turn.lab.title, "job": identity}
        )
        checks = self._store.results(identity)
        for result in checks:
            turn.tell({"event": "result", "result": msgspec.to_builtins(result)})
        return _skill(turn, identity, checks, output)

    def _judge(self, client: Channel, turn: _Turn, slot: Slot) -> SkillResult:
        """Judge one submission; each result is on disk before the client is told it."""
        lab, submission = turn.lab, turn.submission
        identity = self._store.start(lab.skill, submission.seed, turn.practice, submission.sha256)
        turn.tell({"event": "job", "skill": lab.skill, "title": lab.title, "job": identity})
        checks: list[CheckResult] = []

        def keep(result: CheckResult) -> None:
            self._store.add(identity, len(checks), result)
            checks.append(result)
            turn.tell({"event": "result", "result": msgspec.to_builtins(result)})

        job = Job(self._family, lab, submission, slot)
        try:
            for result in job.run(
                client, lambda name: turn.tell({"event": "started", "check": name})
            ):
                keep(result)
        except Abandoned:
            self._store.interrupt(identity)
            raise
        except Exception as error:
            log.exception("the job %s could not be judged", identity)
            failed = error_result(f"{type(error).__name__}: {error}")
            try:
                keep(failed)
            except sqlite3.Error:  # the results file itself may be what fails: then it is only told
                checks.append(failed)
                turn.tell({"event": "result", "result": msgspec.to_builtins(failed)})
        output = clean_lines(job.output)
        with contextlib.suppress(sqlite3.Error):  # left running, the next runner names it
            self._store.finish(identity, output)
        return _skill(turn, identity, checks, output)

    def _tell(self, client: Channel, event: dict[str, Plain]) -> None:
        """Send an event; a client that has gone misses it."""
        with contextlib.suppress(ChannelError):
            client.send(event, seconds=5.0)


def _skill(turn: _Turn, job: str, checks: list[CheckResult], output: str) -> SkillResult:
    lab = turn.lab
    return SkillResult(
        skill=lab.skill,
        title=lab.title,
        required=lab.required,
        ready=is_ready(checks),
        review=lab.review,
        job=job,
        exercise_sha256=turn.submission.sha256,
        checks=checks,
        output=output,
    )


def _key(item: dict[str, Any]) -> str | None:
    key = item.get("key")
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= _KEY):
        raise Refused(f"a key is a text of 1 to {_KEY} characters")
    return key


def _is_below_us(connection: socket.socket) -> bool:
    """Tell whether a descendant of this process has connected: it is no client."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    peer, _, _ = _CREDENTIALS.unpack(told)
    return peer in descendants(os.getpid())


def _slots() -> int:
    """Return how many jobs are judged at a time: as many as cores, and one on a GPU."""
    return 1 if Path("/dev/nvidiactl").exists() else len(os.sched_getaffinity(0))


def _seed(told: dict[str, Any]) -> int | None:
    seed = told.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise Refused("a seed is a number from 0 to 2**63 - 1")
    return seed


def main() -> None:
    """Run the supervisor as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path, help="listen here")
    where.add_argument("--client", type=int, help="serve the one client at this descriptor")
    parser.add_argument("--labs", type=Path, required=True, help="the folder of the labs")
    parser.add_argument("--results", type=Path, required=True, help="the results file")
    parser.add_argument("--runtime", default="local", help="the name of this runtime in results")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    privileges.hide_memory()
    signal.signal(signal.SIGTERM, lambda *_: _stop())
    supervisor = Supervisor(options.labs, options.results, options.runtime)
    try:
        supervisor.start()
        if options.socket:
            supervisor.listen(options.socket)
        else:
            supervisor.serve(Channel(socket.socket(fileno=options.client)))
    except (KeyboardInterrupt, SystemExit):
        log.info("stopping")
    finally:
        supervisor.stop()


def _stop() -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    try:
        main()
    except (LabError, ZygoteError, OSError) as error:
        raise SystemExit(f"The runner could not start: {error}") from error
