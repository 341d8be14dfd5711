"""Runs a function of a test where it can harm nobody: in name spaces that end with it."""

from __future__ import annotations

import importlib
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import PROJECT, as_root

_SPACES = ["--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child", "--mount-proc"]


def alone(scene: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what ``scene``, a function at the top of a test module, returns there."""
    if not as_root():
        pytest.skip("name spaces to signal and fork in are made by root")
    call = [sys.executable, "-m", "tests.verify.spaces", scene.__module__, scene.__name__]
    # Not the first process of its name space: that one is deaf to signals from within.
    command = ["unshare", *_SPACES, "sh", "-c", f"{shlex.join(call)} & wait $!"]
    came = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=PROJECT)
    assert came.returncode == 0, came.stderr
    told: dict[str, Any] = json.loads(came.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    module, name = sys.argv[1:]
    sys.stdout.write("\n" + json.dumps(getattr(importlib.import_module(module), name)()) + "\n")
