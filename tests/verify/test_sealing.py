"""Who learner code runs as, and what it is given."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.conftest import as_root
from verify import sealing

needs_root = pytest.mark.skipif(not as_root(), reason="only root can give learners another user")


def test_a_user_who_is_not_root_keeps_theirs_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    user = sealing.claim_user()
    assert user.uid is None
    assert "not started as root" in user.reason
    assert "user" not in sealing.walls(user.uid)


@needs_root
def test_two_runners_never_share_a_learner_user() -> None:
    first, second = sealing.claim_user(), sealing.claim_user()
    assert first.uid is not None
    assert second.uid is not None
    assert first.uid != second.uid
    assert "user" in sealing.walls(first.uid)
    assert second.claim is not None
    second.claim.close()
    third = sealing.claim_user()
    assert third.uid == second.uid, "a user is free again when its runner is gone"


@needs_root
def test_what_an_earlier_holder_left_running_is_ended() -> None:
    user = sealing.claim_user()
    assert user.uid is not None
    assert user.claim is not None
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    left = subprocess.Popen(command, user=user.uid, group=user.uid, extra_groups=[], cwd="/")
    time.sleep(0.2)
    user.claim.close()
    sealing.claim_user()
    assert left.wait(5) == -9


@needs_root
def test_an_interpreter_that_others_cannot_reach_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    os.chmod(str(tmp_path), 0o700)  # noqa: PTH101
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    user = sealing.claim_user()
    assert user.uid is None
    assert "cannot reach" in user.reason


def test_the_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "sesame")
    monkeypatch.setenv("LD_PRELOAD", "evil.so")
    found = sealing.clean_environment()
    assert set(found) <= {*sealing.PASSED_ON, *sealing.FIXED}
    assert found["HF_HUB_OFFLINE"] == "1"
