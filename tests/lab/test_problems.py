"""A problem reads: what happened, the likely cause, what to type; and has its exit code."""

from __future__ import annotations

import errno
import io

import pytest
from rich.console import Console

from verify.lab.problems import Misuse, Problem, attempt


def run(action) -> tuple[int, str]:
    buffer = io.StringIO()
    return attempt(action, Console(file=buffer, width=40)), buffer.getvalue()


def fails_with(error: BaseException):
    def action() -> None:
        raise error

    return action


def test_a_problem_is_shown_in_order_and_unfolded() -> None:
    long = "word " * 30
    code, shown = run(fails_with(Problem(long, cause="a [bold]cause", type_this="do it --now")))
    assert code == 3
    assert shown.splitlines() == [long, "Likely cause: a [bold]cause", "Type: do it --now"]


def test_what_is_not_known_is_not_shown() -> None:
    assert run(fails_with(Problem("It happened.")))[1] == "It happened.\n"


def test_each_end_has_its_code() -> None:
    assert run(lambda: None)[0] == 0
    assert run(lambda: 5)[0] == 5
    assert run(fails_with(Misuse("no")))[0] == 2
    assert run(fails_with(KeyboardInterrupt()))[0] == 130


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_disk_and_permissions_are_problems_that_name_the_file(number: int) -> None:
    code, shown = run(fails_with(OSError(number, "text", "/some/file")))
    assert code == 3
    assert "/some/file" in shown
    assert shown.splitlines()[-1].startswith("Type: ")


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(fails_with(ZeroDivisionError()))
    with pytest.raises(FileNotFoundError):
        run(fails_with(FileNotFoundError(errno.ENOENT, "text", "/some/file")))
