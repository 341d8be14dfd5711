"""The users that learner code runs as: each job's is nobody else's while the job lasts."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import Final

LEARNER_UIDS: Final = range(59_000, 59_064)  # no passwd entries; each runner takes some
CONTAINER_UIDS: Final = range(59_064, 59_128)  # of the runners inside an image


@dataclasses.dataclass(frozen=True)
class LearnerUsers:
    """Who learner code runs as.

    Attributes:
        uids: Users that no other runner's learners have; empty: the runner's own.
        reason: Why it is the runner's own.
        claims: Hold the uids for as long as they are open.
    """

    uids: tuple[int, ...]
    reason: str = ""
    claims: tuple[socket.socket, ...] = ()


def claim(count: int) -> LearnerUsers:
    """Claim up to ``count`` users for this runner's learners, at least one or none at all.

    What an earlier holder left running is ended.
    """
    if os.geteuid() != 0:
        return LearnerUsers((), "the runner was not started as root")
    for prefix in (sys.base_prefix, sys.prefix):
        for folder in (Path(prefix), *Path(prefix).parents):
            if not folder.stat().st_mode & stat.S_IXOTH:
                return LearnerUsers((), f"other users cannot reach {prefix} through {folder}")
    claims: dict[int, socket.socket] = {}
    for uid in _candidates():
        if len(claims) == count:
            break
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:  # an abstract name: nobody can hold it twice, and it goes with its holder
            held.bind(f"\0verify-learner-{uid}")
        except OSError:
            held.close()
            continue
        end_all_of(uid)
        claims[uid] = held
    if not claims:
        return LearnerUsers((), "every learner user is taken by another runner")
    return LearnerUsers(tuple(claims), claims=tuple(claims.values()))


def end_all_of(uid: int) -> None:
    """Kill every process of ``uid``."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and entry.stat().st_uid == uid:
                os.kill(int(entry.name), signal.SIGKILL)


def in_image() -> bool:
    """Tell whether this runs in an image of the lab."""
    return (Path(__file__).parents[1] / "manifest.json").exists()


def _candidates() -> list[int]:
    """Return the users to choose from, in the order in which to try them.

    The kernel counts a user's processes over all containers, but a container sees no other's
    claims: there any order is as good, and the chance that two take the same one is small.
    """
    if not in_image():
        return list(LEARNER_UIDS)
    return secrets.SystemRandom().sample(CONTAINER_UIDS, len(CONTAINER_UIDS))
