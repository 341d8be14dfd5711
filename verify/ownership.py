"""Acting as a file's owner: what root in a container, who may not do all, must do to reach it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Have the rights of ``uid`` to files, where this process is root; else change nothing.

    The whole process changes, all its threads: use it before there are others.
    """
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
