"""What Compose is told: whose the workspace is, which files, and what is left for use by hand."""

from __future__ import annotations

import os

import pytest

from tests.conftest import as_root
from verify.lab import compose
from verify.lab.layout import Layout


def test_the_containers_run_as_the_workspaces_owner(layout: Layout) -> None:
    told = compose.settings(layout, "cpu", None, 8890)
    owner = layout.workspace.stat()
    assert told == {
        "COMPOSE_FILE": "compose.yaml",
        "LAB_VARIANT": "cpu",
        "LAB_UID": str(owner.st_uid),
        "LAB_GID": str(owner.st_gid),
        "LAB_PORT": "8890",
    }


@pytest.mark.skipif(not as_root(), reason="only root can give a folder away")
def test_also_when_root_brings_up_what_is_anothers(layout: Layout) -> None:
    os.chown(layout.workspace, 1234, 1235)
    told = compose.settings(layout, "cpu", None, 8888)
    assert (told["LAB_UID"], told["LAB_GID"]) == ("1234", "1235")


@pytest.mark.parametrize(
    ("wiring", "files"),
    [
        (None, "compose.yaml"),
        ("runtime", "compose.yaml:images/gpu/compose.yaml:images/gpu/compose.runtime.yaml"),
        ("cdi", "compose.yaml:images/gpu/compose.yaml:images/gpu/compose.cdi.yaml"),
    ],
)
def test_the_files_follow_the_wiring(layout: Layout, wiring: str | None, files: str) -> None:
    assert compose.settings(layout, "gpu", wiring, 1)["COMPOSE_FILE"] == files


def test_what_was_chosen_is_left_for_compose_by_hand(layout: Layout) -> None:
    compose.write_settings(layout, {"LAB_PORT": "8888"})
    compose.write_settings(layout, {"LAB_PORT": "8889", "LAB_UID": "5"})
    lines = (layout.root / ".env").read_text().splitlines()
    assert lines[1:] == ["LAB_PORT=8889", "LAB_UID=5"]


def test_somebodys_own_settings_stay(layout: Layout) -> None:
    (layout.root / ".env").write_text("MINE=1\n")
    compose.write_settings(layout, {"LAB_PORT": "8889"})
    assert (layout.root / ".env").read_text() == "MINE=1\n"
