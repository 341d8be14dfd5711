"""Starters and lessons arrive; nothing a learner wrote is ever lost."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import pytest

from tests.lab.conftest import add_lab
from verify.lab import workspace
from verify.lab.layout import Layout
from verify.lab.problems import Misuse, Problem


def test_starters_lessons_and_the_start_page_arrive_and_nothing_else(layout: Layout) -> None:
    (layout.labs / "double" / "loss.png").write_bytes(b"picture")
    assert "2 labs, 2 new exercises" in workspace.fill(layout)
    found = {str(it.relative_to(layout.workspace)) for it in layout.workspace.rglob("*.*")}
    assert found == {
        ".shipped.json", "README.md", "double/README.md", "double/exercise.py", "double/loss.png",
        "halve/README.md", "halve/exercise.py",
    }  # fmt: skip


def test_a_lab_without_an_exercise_leaves_nothing_in_the_workspace(layout: Layout) -> None:
    folder = add_lab(layout, "machine", 0, "false")
    (folder / "exercise.py").unlink()
    text = (folder / "lab.toml").read_text()
    (folder / "lab.toml").write_text("exercise = false\n" + text)
    assert "2 labs, 2 new exercises" in workspace.fill(layout)
    assert not (layout.workspace / "machine").exists()
    assert "machine" not in (layout.workspace / "README.md").read_text().lower()
    with pytest.raises(Misuse, match="The skills are: double, halve"):
        workspace.reset(layout, "machine")


def test_the_start_page_links_the_labs_in_their_order(layout: Layout) -> None:
    workspace.fill(layout)
    page = (layout.workspace / "README.md").read_text()
    assert page.index("(double/README.md)") < page.index("(halve/exercise.py)")
    assert page.count("optional") == 1
    for link in ("double/README.md", "double/exercise.py", "halve/README.md", "halve/exercise.py"):
        assert f"({link})" in page
        assert (layout.workspace / link).exists()


def test_a_learners_exercise_is_never_overwritten(layout: Layout) -> None:
    workspace.fill(layout)
    mine = layout.workspace / "double" / "exercise.py"
    mine.write_text("mine")
    (layout.labs / "double" / "exercise.py").write_text("a newer starter")
    assert "yours kept" in workspace.fill(layout)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("target", ["elsewhere.py", "/no/such/file"])
def test_an_exercise_that_is_a_link_is_the_learners(layout: Layout, target: str) -> None:
    folder = layout.workspace / "double"
    folder.mkdir()
    (folder / "exercise.py").symlink_to(target)
    workspace.fill(layout)
    assert (folder / "exercise.py").is_symlink()
    assert not (folder / "elsewhere.py").exists()


def test_an_unchanged_lesson_is_refreshed_and_a_changed_one_is_kept(layout: Layout) -> None:
    workspace.fill(layout)
    (layout.workspace / "halve" / "README.md").write_text("my notes")
    for skill in ("double", "halve"):
        (layout.labs / skill / "README.md").write_text("a newer lesson")
    workspace.fill(layout)
    assert (layout.workspace / "double" / "README.md").read_text() == "a newer lesson"
    assert (layout.workspace / "halve" / "README.md").read_text() == "my notes"


def test_a_lesson_that_was_there_before_is_the_learners(layout: Layout) -> None:
    (layout.workspace / "double").mkdir()
    (layout.workspace / "double" / "README.md").write_text("my notes")
    workspace.fill(layout)
    assert (layout.workspace / "double" / "README.md").read_text() == "my notes"


@pytest.mark.parametrize("spoilt", [None, "{", "[1]"])
def test_without_its_memory_nothing_is_lost_and_the_same_is_recognised(
    layout: Layout, spoilt: str | None
) -> None:
    workspace.fill(layout)
    (layout.workspace / "halve" / "README.md").write_text("my notes")
    layout.shipped.unlink() if spoilt is None else layout.shipped.write_text(spoilt)
    workspace.fill(layout)
    for skill in ("double", "halve"):
        (layout.labs / skill / "README.md").write_text("a newer lesson")
    workspace.fill(layout)
    assert (layout.workspace / "double" / "README.md").read_text() == "a newer lesson"
    assert (layout.workspace / "halve" / "README.md").read_text() == "my notes"


def test_the_start_page_grows_with_the_labs(layout: Layout) -> None:
    workspace.fill(layout)
    add_lab(layout, "third", 3, "true")
    workspace.fill(layout)
    assert "third/exercise.py" in (layout.workspace / "README.md").read_text()


def test_half_a_starter_is_not_left_behind(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the device /dev/full refuses every write with ENOSPC."""
    (layout.workspace / "double").mkdir()
    open_file = Path.open

    def open_on_a_full_disk(path: Path, mode: str = "r", **how: Any) -> IO[Any]:
        opened = open_file(path, mode, **how)
        if mode != "xb":
            return opened
        opened.close()
        return open_file(Path("/dev/full"), "wb")

    monkeypatch.setattr(Path, "open", open_on_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        workspace.fill(layout)
    assert not (layout.workspace / "double" / "exercise.py").exists()


def test_reset_puts_the_starter_back_and_keeps_every_old_file(layout: Layout) -> None:
    workspace.fill(layout)
    mine = layout.workspace / "double" / "exercise.py"
    for text in ("first", "second", "third"):  # within one second: the names must not collide
        mine.write_text(text)
        assert "kept as exercise.2" in workspace.reset(layout, "double")
        assert mine.read_text() == "# the starter of double\n"
    kept = {file.read_text() for file in mine.parent.glob("exercise.2*.py")}
    assert kept == {"first", "second", "third"}


def test_reset_of_the_starter_keeps_no_copy_of_it(layout: Layout) -> None:
    assert "is the starter." in workspace.reset(layout, "double")
    assert "already" in workspace.reset(layout, "double")
    assert len(list((layout.workspace / "double").iterdir())) == 1


@pytest.mark.parametrize(
    ("typed", "told"),
    [("dubble", "Did you mean double?"), ("", "Which skill is meant?"), ("xyz", "double, halve")],
)
def test_an_unknown_skill_names_the_near_ones(layout: Layout, typed: str, told: str) -> None:
    with pytest.raises(Misuse) as caught:
        workspace.reset(layout, typed)
    assert told in caught.value.happened
    assert caught.value.type_this == "invoke lab.reset --skill double"


def test_a_spoilt_lab_is_one_clear_message(layout: Layout) -> None:
    (layout.labs / "halve" / "exercise.py").unlink()
    with pytest.raises(Problem, match=r"halve has no exercise\.py"):
        workspace.fill(layout)
    (layout.labs / "halve" / "lab.toml").write_text("order = ")
    with pytest.raises(Problem, match=r"lab\.toml"):
        workspace.fill(layout)


def test_a_project_without_labs_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="There is no lab in"):
        workspace.fill(Layout(tmp_path))


def test_a_link_with_the_name_of_a_new_file_is_not_written_through(
    layout: Layout, tmp_path: Path
) -> None:
    """Whoever shares the workspace could else have root overwrite any file."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    for name in (".README.md.new", "..shipped.json.new"):
        (layout.workspace / name).symlink_to(victim)
    workspace.fill(layout)
    assert victim.read_text() == "kept"
    assert (layout.workspace / "README.md").read_text().startswith("# Welcome")
