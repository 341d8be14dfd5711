"""Who learner code runs as."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.conftest import as_root
from verify import users

needs_root = pytest.mark.skipif(not as_root(), reason="only root can give learners another user")


def test_a_user_who_is_not_root_keeps_theirs_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    claimed = users.claim(2)
    assert claimed.uids == ()
    assert "not started as root" in claimed.reason


@needs_root
def test_no_two_jobs_of_any_two_runners_share_a_learner_user() -> None:
    first, second = users.claim(2), users.claim(2)
    assert len({*first.uids, *second.uids}) == 4
    for held in second.claims:
        held.close()
    third = users.claim(2)
    assert third.uids == second.uids, "a user is free again when its runner is gone"


@needs_root
def test_what_an_earlier_holder_left_running_is_ended() -> None:
    claimed = users.claim(1)
    (uid,), (held,) = claimed.uids, claimed.claims
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    left = subprocess.Popen(command, user=uid, group=uid, extra_groups=[], cwd="/")
    time.sleep(0.2)
    held.close()
    users.claim(1)
    assert left.wait(5) == -9


@needs_root
def test_an_interpreter_that_others_cannot_reach_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    os.chmod(str(tmp_path), 0o700)  # noqa: PTH101
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    claimed = users.claim(1)
    assert claimed.uids == ()
    assert "cannot reach" in claimed.reason
