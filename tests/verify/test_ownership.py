"""Acting as another user: files are reached with their rights, and ours come back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import as_root
from verify.ownership import acting_as

OTHER = 1234


@pytest.mark.skipif(not as_root(), reason="only root can act as another")
def test_what_only_root_may_read_is_not_read_as_another(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("s")
    secret.chmod(0o400)
    with acting_as(OTHER):
        assert os.geteuid() == OTHER
        assert not os.access(secret, os.R_OK, effective_ids=True)
    assert os.geteuid() == 0
    with pytest.raises(ZeroDivisionError), acting_as(OTHER):
        raise ZeroDivisionError
    assert os.geteuid() == 0
    assert secret.read_text() == "s"


def test_acting_as_root_or_oneself_changes_nothing() -> None:
    before = os.geteuid()
    with acting_as(0):
        assert os.geteuid() == before
