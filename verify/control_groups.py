"""The control groups of this process: what a container, a batch job or a service may take.

https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

PROC: Final = Path("/proc")
GROUPS: Final = Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True)
class Group:
    """One group: the version of its hierarchy, and its folder."""

    version: Literal[1, 2]
    folder: Path

    def read(self, name: str) -> str | None:
        """Return what the group's file ``name`` says, or None where it has none."""
        try:
            return (self.folder / name).read_text("ascii").strip()
        except OSError:
            return None


def groups(controller: str, proc: Path = PROC, root: Path = GROUPS) -> Iterator[Group]:
    """Yield the groups that limit this process by ``controller``, and those above them.

    A group below another may be seen here as the root: inside a container it is, and the path that
    /proc tells is not there.
    """
    for line in (proc / "self" / "cgroup").read_text("ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        version: Literal[1, 2]
        if controllers == "":
            tops, version = [root, root / "unified"], 2
        elif controller in controllers.split(","):
            tops, version = [root / name for name in dict.fromkeys((controllers, controller))], 1
        else:
            continue
        for top in tops:
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(top):
                    yield Group(version, folder)
