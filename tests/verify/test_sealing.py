"""What a learner's process is given: an environment, and files; never a lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import PROJECT
from verify import sealing


def test_the_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "sesame")
    monkeypatch.setenv("LD_PRELOAD", "evil.so")
    found = sealing.clean_environment()
    assert set(found) <= {*sealing.PASSED_ON, *sealing.FIXED}
    assert found["HF_HUB_OFFLINE"] == "1"


def test_no_lab_result_or_key_is_among_the_files_it_can_reach() -> None:
    reachable = [Path(path).resolve() for path in sealing.reachable("/tmp/job")]
    for closed in ("labs", "labs/memory/solution.py", ".lab/results", ".lab/run", "workspace"):
        there = {PROJECT / closed, *(PROJECT / closed).parents}
        assert not there & set(reachable), closed
