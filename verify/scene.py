"""Playing a scene: the one piece of code that learner's, reference and mistaken functions share.

A scene is a function of a lab's public ``scene.py``: ``scene(exercise, **inputs)``. It builds what
it needs, calls the functions of ``exercise``, measures, and returns an observation. In the
learner's process ``exercise`` holds the learner's functions; in the judge's a misconception's.
"""

from __future__ import annotations

import errno
import importlib.util
import random
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch

from verify.plain import Plain, Raised
from verify.tensors import from_plain, plain

EXERCISE = "exercise.py"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEXT = 500  # characters of an exception's message that are kept


def play(
    scene: Callable[..., object], exercise: object, inputs: dict[str, Plain], seed: int
) -> Plain:
    """Return the observation of one scene, or how it ended, as plain data.

    ``inputs`` are copied: a scene gets new tensors each time. Torch's generators start from
    ``seed``. Whatever the exercise's functions raise, ``SystemExit`` included, comes back as
    `Raised`; running out of memory does as ``MemoryError``, whoever noticed it, and writing more
    to disk than a job may as ``DiskFull``.
    """
    torch.manual_seed(seed)
    given = {name: from_plain(value) for name, value in inputs.items()}
    try:
        return plain(scene(exercise, **given))
    except BaseException as error:  # noqa: BLE001 - learner code may raise anything at all
        return raised(error)


def begin_anew(threads: int) -> None:
    """Give a process that was forked randomness of its own, and torch its number of threads.

    The generators' states are the zygote's, the same in every process that is forked from it.
    """
    random.seed()
    np.random.seed()  # the global one is what exercises use
    torch.seed()
    torch.set_num_threads(threads)


def attempt(function: Callable[..., Any], *arguments: object) -> Plain:
    """Return what one call gives as plain data, or what it raises: the next call still happens."""
    try:
        return plain(function(*arguments))
    except Exception as error:  # noqa: BLE001 - learner code may raise anything
        return raised(error)


def raised(error: BaseException) -> Raised:
    """Describe an exception: its type, its message and the exercise's line it came from."""
    kind = type(error).__name__
    if _out_of_memory(error):
        kind = "MemoryError"
    elif isinstance(error, OSError) and error.errno in _FULL:
        kind = "DiskFull"
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - learner code may define __str__
        text = ""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if frame.filename == EXERCISE]
    if not mine:
        return Raised(str(kind), str(text)[:_TEXT], None)
    return Raised(str(kind), str(text)[:_TEXT], mine[-1].lineno, str(mine[-1].line)[:_TEXT])


def load_module(name: str, source: bytes, filename: str) -> ModuleType:
    """Return a new module made of ``source``, registered as ``name``; trusted code only."""
    spec = importlib.util.spec_from_loader(name, loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = filename
    sys.modules[name] = module
    exec(compile(source, filename, "exec"), vars(module))  # noqa: S102 - the lab's own code
    return module


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)
