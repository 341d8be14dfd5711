"""Turns and slots: submissions wait for a slot, are judged, and their events told in order."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from verify import gpu_nodes, scratch
from verify.channel import Channel
from verify.job import Abandoned, Job, Slot, Submission, error_result
from verify.plain import Plain
from verify.processes import Family
from verify.requests import Wanted
from verify.results import CheckResult, SkillResult
from verify.store import Store
from verify.text import clean_lines

_WAITING_SECONDS: Final = 1.0

log = logging.getLogger("verify.court")


class Turn:
    """One submission of a request, and what is to be told of it, in order."""

    def __init__(self, wanted: Wanted, seed: int, *, practice: bool) -> None:
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


class Court:
    """Judges as many submissions at a time as it has slots, for any number of clients."""

    def __init__(self, family: Family, store: Store, slots: list[Slot]) -> None:
        self._family = family
        self._store = store
        self._slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        self._size = len(slots)
        for slot in slots:
            self._slots.put(slot)

    def judge(self, client: Channel, turns: list[Turn]) -> Iterator[dict[str, Plain]]:
        """Yield what is to be told of ``turns``, which are judged beside each other, in order.

        Raises:
            Abandoned: ``client`` has gone.
        """
        with ThreadPoolExecutor(min(len(turns), self._size)) as pool:
            for turn in turns:
                pool.submit(self._take_turn, client, turn)
            try:
                for turn in turns:  # what is judged beside the first is told after it
                    yield from turn.events()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _take_turn(self, client: Channel, turn: Turn) -> None:
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
    def _slot(self, client: Channel, turn: Turn) -> Iterator[Slot]:
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

    def _judged_before(self, turn: Turn) -> SkillResult | None:
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
        return turn.lab.result(checks, job=identity, sha256=turn.submission.sha256, output=output)

    def _judge(self, client: Channel, turn: Turn, slot: Slot) -> SkillResult:
        """Judge one submission; each result is on disk before the client is told it."""
        lab, submission = turn.lab, turn.submission
        identity = self._store.start(
            lab.skill, submission.seed, turn.practice, submission.sha256, turn.key
        )
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
        return turn.lab.result(checks, job=identity, sha256=turn.submission.sha256, output=output)


def count_slots() -> int:
    """Return how many jobs are judged at a time: as many as cores, and one on a GPU.

    In a container, no more than it has room on disk for.
    """
    most = len(scratch.folders()) or None
    cores = len(os.sched_getaffinity(0))
    return 1 if gpu_nodes.in_use() else min(cores, most or cores)
