"""The system's packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from verify import apt


@pytest.mark.skipif(not Path("/usr/bin/dpkg-query").exists(), reason="no dpkg here")
def test_the_system_s_packages_are_those_of_dpkg() -> None:
    found = apt.packages()
    asked = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Version}", "libc-bin"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert found["libc-bin"] == asked
    assert list(found) == sorted(found)
