"""What Compose is told: whose the workspace is, which files, and what is left for use by hand."""

from __future__ import annotations

import os

import pytest

from tests.conftest import as_root
from verify.lab import compose
from verify.lab.layout import Layout


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in compose._KEPT:
        monkeypatch.delenv(name, raising=False)


def test_the_containers_run_as_the_workspaces_owner(layout: Layout) -> None:
    told = compose.settings(layout, "cpu", None, 8890)
    owner = layout.workspace.stat()
    assert told == {
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


@pytest.mark.parametrize("wiring", ["runtime", "cdi"])
def test_the_files_follow_the_wiring(layout: Layout, wiring: str) -> None:
    told = compose.settings(layout, "gpu", wiring, 1)["COMPOSE_FILE"].split(":")
    names = ["compose.yaml", "images/gpu/compose.yaml", f"images/gpu/compose.{wiring}.yaml"]
    assert told == [str(layout.root / name) for name in names]


def test_what_a_person_has_set_stays(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_JUPYTER_MEMORY", "4g")
    compose.write_settings(layout, compose.settings(layout, "cpu", None, 8890))
    monkeypatch.delenv("LAB_JUPYTER_MEMORY")
    assert compose.settings(layout, "cpu", None, 8888)["LAB_JUPYTER_MEMORY"] == "4g"
    assert compose.last_port(layout) == 8890


def test_what_was_chosen_is_left_for_compose_by_hand(layout: Layout) -> None:
    compose.write_settings(layout, {"LAB_PORT": "8888"})
    compose.write_settings(layout, {"LAB_PORT": "8889", "LAB_UID": "5"})
    lines = (layout.root / ".env").read_text().splitlines()
    assert lines[1:] == ["LAB_PORT=8889", "LAB_UID=5"]


def test_somebodys_own_settings_stay(layout: Layout) -> None:
    (layout.root / ".env").write_text("MINE=1\n")
    compose.write_settings(layout, {"LAB_PORT": "8889"})
    assert (layout.root / ".env").read_text() == "MINE=1\n"
