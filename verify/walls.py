"""Which walls this machine can put up around learner code, and what they add up to.

Two ways lead to ``full``. Either learners have a user of their own, and the file wall and the
system call filter stand: two independent walls between them and the runner. Or they share the
runner's user, and the file wall is one that keeps signals in too (`verify.landlock.SCOPED`).
"""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable
from typing import Literal

from verify import landlock, scratch, seccomp
from verify.privileges import set_no_new_privileges

Level = Literal["full", "partial", "none"]


@dataclasses.dataclass(frozen=True)
class Walls:
    """The walls of one runner.

    Attributes:
        user: Whether learners have a user of their own.
        files: The version of Landlock in force, 0 for none.
        system_calls: Whether the system call filter is in force.
        mounts: Whether each job is given file systems of its own for its files, in memory.
        notes: What a reader of the record should know of them, in sentences.
    """

    user: bool
    files: int
    system_calls: bool
    mounts: bool = False
    notes: tuple[str, ...] = ()

    @property
    def level(self) -> Level:
        """What they add up to."""
        if not (self.user or self.files or self.system_calls):
            return "none"
        kept_in = self.user or self.files >= landlock.SCOPED
        return "full" if self.files and self.system_calls and kept_in else "partial"

    @property
    def names(self) -> list[str]:
        """The walls, as a record names them."""
        names = ["process", "limits", "environment", "descriptors", "no-new-privileges"]
        names += ["user"] * self.user + ["files"] * bool(self.files)
        names += ["signals"] * (self.user or self.files >= landlock.SCOPED)
        names += ["disk"] * (self.mounts or bool(scratch.folders()))
        return names + ["system-calls"] * self.system_calls


def look(*, user: bool, reason: str) -> Walls:
    """Return the walls that stand when they are tried here, in a child that ends at once.

    Args:
        user: Whether learners have a user of their own.
        reason: Why not.
    """
    notes = [] if user else [f"Learner code runs as the runner's own user: {reason}."]
    files = landlock.abi() if _stands(lambda: landlock.restrict({})) else 0
    if not files:
        notes.append("This kernel has no file wall (Landlock, Linux 5.13 or newer).")
    elif not user and files < landlock.SCOPED:
        notes.append("This kernel's file wall lets signals through (Linux 6.12 would not).")
    system_calls = _stands(seccomp.install)
    if not system_calls:
        notes.append(f"No system call filter stands here ({platform.machine()}).")
    mounts = _stands(scratch.try_to_enter)
    return Walls(user, files, system_calls, mounts, tuple(notes))


def _stands(wall: Callable[[], None]) -> bool:
    """Tell whether a wall can be put up, by doing so in a child."""
    pid = os.fork()
    if pid == 0:
        try:
            set_no_new_privileges()
            wall()
        except BaseException:  # noqa: BLE001 - whatever it is, the wall does not stand
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
