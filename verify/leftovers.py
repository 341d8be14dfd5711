"""What learner code leaves in folders that outlive its job, and its removal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from verify import scratch
from verify.processes import Family
from verify.scratch import SHARED_MEMORY

_SHARED: Final = ("/tmp", "/var/tmp", SHARED_MEMORY, "/dev/mqueue")  # noqa: S108


def remove_leftovers(family: Family) -> None:
    """Remove the job directories of runners that were killed."""
    places = {Path(tempfile.gettempdir()), *scratch.folders()}
    for directory in (found for place in places for found in place.glob("verify-*-*")):
        owner = directory.name.split("-")[1]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            remove(family, str(directory))


def remove(family: Family, directory: str) -> None:
    """Remove a job's directory, however deep: `shutil.rmtree` recurses and ends in an error.

    Its owner does it: root in a container may not write in others' folders.
    """
    try:
        os.rmdir(directory)  # noqa: PTH106 - empty where what was in it was in memory
    except FileNotFoundError:
        return
    except OSError:
        owner = os.lstat(directory).st_uid
    else:
        return
    how = {"user": owner, "group": owner, "extra_groups": []} if os.geteuid() == 0 and owner else {}
    program = ["rm", "-rf", "--", directory]
    if family.run(program, stderr=subprocess.DEVNULL, **how) == 0:
        return
    # A folder closed to its owner keeps what is in it. (A link never gets here: rm removes it.)
    family.run(["chmod", "-R", "u+rwX", "--", directory], stderr=subprocess.DEVNULL, **how)
    family.run(program, stderr=subprocess.DEVNULL, **how)


def shared_memory() -> frozenset[str]:
    """Return the names in the folder of shared memory, which a learner may write to."""
    with contextlib.suppress(OSError):
        return frozenset(os.listdir(SHARED_MEMORY))  # noqa: PTH208 - names are what is wanted
    return frozenset()


def remove_shared_memory(before: frozenset[str]) -> None:
    """Remove what came into shared memory since ``before``, is ours, and is in nobody's use.

    For learners that have no user of their own: what they leave cannot be told by its owner, and
    other programs of the same user have theirs there too.
    """
    new = shared_memory() - before
    mapped = _mapped() if new else ""
    for name in new:
        path = f"{SHARED_MEMORY}/{name}"
        with contextlib.suppress(OSError):
            if os.lstat(path).st_uid == os.geteuid() and path not in mapped:
                os.unlink(path)  # noqa: PTH108


def _mapped() -> str:
    """Return the memory maps of all processes that show them."""
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            found.append(maps.read_text("utf-8", "replace"))
    return "".join(found)


def remove_all_of(family: Family, uid: int) -> None:
    """Remove what ``uid`` left in the folders that everybody may write to.

    The next learner has the same user: nothing may wait there for it, or take its room.
    """
    for folder in _SHARED:
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    remove(family, entry.path)
