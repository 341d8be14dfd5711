"""What the walls that stand add up to, and what a reader is told of those that do not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from verify import landlock, scratch, seccomp, walls
from verify.landlock import SCOPED
from verify.walls import Walls


@pytest.mark.parametrize(
    ("user", "files", "system_calls", "level"),
    [
        (True, SCOPED, True, "full"),
        (True, 1, True, "full"),
        (False, SCOPED, True, "full"),
        (False, SCOPED - 1, True, "partial"),
        (True, 0, True, "partial"),
        (True, SCOPED, False, "partial"),
        (False, SCOPED, False, "partial"),
        (True, 0, False, "partial"),
        (False, 0, True, "partial"),
        (False, 0, False, "none"),
    ],
)
def test_full_takes_two_walls_that_keep_learners_in(
    user: bool, files: int, system_calls: bool, level: str
) -> None:
    assert Walls(user, files, system_calls).level == level


def test_each_wall_is_named_and_none_that_does_not_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "folders", list)
    always = {"process", "limits", "environment", "descriptors", "no-new-privileges"}
    assert set(Walls(False, 0, False).names) == always
    assert set(Walls(False, 1, False).names) - always == {"files"}
    assert set(Walls(False, SCOPED, False).names) - always == {"files", "signals"}
    assert set(Walls(True, 0, False).names) - always == {"user", "signals"}
    assert set(Walls(False, 0, True).names) - always == {"system-calls"}
    assert set(Walls(False, 0, False, mounts=True).names) - always == {"disk"}


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the walls of a machine stand or not, each as if it had been tried."""

    def let(*, files: int = SCOPED, system_calls: bool = True, mounts: bool = True) -> None:
        def wall(stands: object) -> Callable[..., None]:
            def put_up(*how: object) -> None:
                if not stands:
                    raise OSError("not here")

            return put_up

        monkeypatch.setattr(walls, "set_no_new_privileges", lambda: None)
        monkeypatch.setattr(landlock, "abi", lambda: files)
        monkeypatch.setattr(landlock, "restrict", wall(files))
        monkeypatch.setattr(seccomp, "install", wall(system_calls))
        monkeypatch.setattr(scratch, "try_to_enter", wall(mounts))

    return let


def test_where_all_stand_there_is_nothing_to_note(stand: Callable[..., None]) -> None:
    stand()
    found = walls.look(user=True, reason="")
    assert (found.level, found.notes, found.mounts) == ("full", (), True)


def test_a_learner_without_a_user_is_noted_with_the_reason(stand: Callable[..., None]) -> None:
    stand()
    found = walls.look(user=False, reason="the runner was not started as root")
    assert found.level == "full"
    assert found.notes == (
        "Learner code runs as the runner's own user: the runner was not started as root.",
    )


@pytest.mark.parametrize(
    ("how", "user", "level", "noted"),
    [
        ({"files": 0}, True, "partial", "no file wall"),
        ({"files": SCOPED - 1}, False, "partial", "lets signals through"),
        ({"system_calls": False}, True, "partial", "No system call filter"),
        ({"files": 0, "system_calls": False}, False, "none", "no file wall"),
    ],
)
def test_a_wall_that_does_not_stand_is_noted(
    stand: Callable[..., None], how: dict[str, int], user: bool, level: str, noted: str
) -> None:
    stand(**how)
    found = walls.look(user=user, reason="a reason")
    assert found.level == level
    assert any(noted in note for note in found.notes)
    assert len(found.notes) == (not user) + len(how)


def test_an_old_file_wall_is_enough_beside_a_user(stand: Callable[..., None]) -> None:
    stand(files=1)
    found = walls.look(user=True, reason="")
    assert (found.level, found.files, found.notes) == ("full", 1, ())


def test_a_file_wall_that_the_kernel_has_and_refuses_does_not_stand(
    stand: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(files=0)
    monkeypatch.setattr(landlock, "abi", lambda: 7)
    assert walls.look(user=True, reason="").files == 0


def test_walls_are_tried_in_a_child_and_do_not_stay(tmp_path: Path) -> None:
    """In earnest: afterwards this process still writes files, and may still make name spaces."""
    before = Path("/proc/self/status").read_text().partition("NoNewPrivs:")[2].split()[:3]
    walls.look(user=False, reason="a test")
    assert Path("/proc/self/status").read_text().partition("NoNewPrivs:")[2].split()[:3] == before
    (tmp_path / "file").write_text("x")


@pytest.mark.parametrize("how", [lambda: os._exit(3), lambda: os.kill(os.getpid(), 9)])
def test_a_wall_whose_trial_ends_the_child_does_not_stand(how: Callable[[], None]) -> None:
    assert not walls._stands(how)
    assert walls._stands(lambda: None)
