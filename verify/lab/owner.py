"""Whether JupyterLab's user may write the learner's files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from verify.lab.layout import InImage
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.lab.view import Finding, View

_LOOKED_AT: Final = 5_000  # files; a workspace with more has data sets in it


def workspace(view: View) -> Finding:
    """Return whose the workspace is; the first file in it that JupyterLab's user cannot write.

    In containers that user is the workspace's owner, on the machine itself whoever types.
    """
    folder = view.layout.workspace
    if not folder.is_dir():
        return None
    inside = isinstance(view.layout, InImage)
    if view.runtime == "node" and os.geteuid() not in (0, folder.stat().st_uid):
        return None  # who looks at a node need not be who works there
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return Problem(
            f"{folder} is on a file system that cannot be written.",
            cause="it is mounted read-only, or went so after a fault of the disk",
            type_this=f"findmnt -T {folder}; sudo dmesg | tail",
        )
    user = folder.stat().st_uid if view.runtime == "compose" and not inside else os.geteuid()
    shut = [path for path in _paths(folder) if not _may_write(user, path)]
    if not shut:
        return f"{folder}, user {user}"
    more = f" and {len(shut) - 1} more" if len(shut) > 1 else ""
    return Problem(
        f"{shut[0]}{more} cannot be written by JupyterLab's user ({user}).",
        cause="a command with sudo, or a container of another user, made it",
        type_this=f"sudo chown -R {user} {folder} && chmod -R u+rwX {folder}",
    )


def _paths(folder: Path) -> Iterator[Path]:
    """Yield the folder and what is in it, links left out: what they name may be anybody's."""
    yield folder
    count = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if not path.is_symlink():
                yield path
                count += 1
        if count > _LOOKED_AT:
            return


def _may_write(user: int, path: Path) -> bool:
    """Tell whether the mode lets ``user`` write; groups are not known of another user."""
    try:
        found = path.stat()
    except OSError:
        return True  # gone in the meantime
    if user == 0:
        return True
    if found.st_uid == user:
        return bool(found.st_mode & stat.S_IWUSR)
    if user == os.geteuid():
        return os.access(path, os.W_OK)
    return bool(found.st_mode & stat.S_IWOTH)
