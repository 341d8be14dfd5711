"""One check of one function as each grader's own assignment: the same text, the same comparison."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

MODULE: Final = '''\
import peft
import torch
import transformers


def cross_entropy(logits, targets):
    """Return the mean negative log-likelihood of `targets`."""
    chosen = logits.log_softmax(-1).gather(-1, targets[:, None])
    return {answer}
'''
RIGHT: Final = MODULE.format(answer="-chosen.mean()")
WRONG: Final = MODULE.format(answer="-chosen.sum()")
STARTER: Final = MODULE.format(answer="...")

QUESTION: Final = """\
logits, targets = torch.randn(4, 7), torch.randint(7, (4,))
truth = torch.nn.functional.cross_entropy(logits, targets)
"""
TEST: Final = QUESTION + "assert torch.allclose(cross_entropy(logits, targets), truth)\n"


class Unjudged(Exception):
    """A grader ended without a verdict."""


class Peer:
    """A grader with one assignment and one submission in a folder.

    Attributes:
        name: What it is called in the package index.
        typed: What is typed to have the submission judged.
    """

    name: str
    typed: str

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        self._programs = programs
        home = folder / "home"  # no settings but the tool's own, nothing left behind
        home.mkdir(parents=True)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "HOME": str(home), "PATH": path}

    def submit(self, exercise: str) -> None:
        """Make the assignment, with ``exercise`` as what a learner hands in."""
        raise NotImplementedError

    def forget(self) -> None:
        """Take away the verdict of an earlier run, so that the next cannot be told from it."""

    def judge(self) -> Callable[[], bool]:
        """Run the grader; return what tells, off the clock, whether it found the answer right."""
        printed = self.run(self.typed, codes=(0, 1))  # a wrong answer may end with 1
        return lambda: self.passed(printed)

    def passed(self, printed: str) -> bool:
        """Return the verdict; raise `Unjudged` if there is none."""
        raise NotImplementedError

    def run(self, typed: str, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command of the grader's and return what it printed.

        Raises:
            Unjudged: it did not end with one of ``codes``.
        """
        first, *others = typed.split()
        command = [str(self._programs / first), *others]
        came = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, check=False
        )
        if came.returncode not in codes:
            raise Unjudged(
                f"`{typed}` ended with {came.returncode}: {came.stderr.decode()[-2000:]}"
            )
        return came.stdout.decode()


class Check50(Peer):
    """check50 with local checks: no network."""

    name = "check50"
    typed = "check50 --dev checks --output ansi"

    def submit(self, exercise: str) -> None:
        """Write the checks and the exercise."""
        write(self.folder / "exercise.py", exercise)
        write(
            self.folder / "checks" / ".cs50.yml", "check50:\n  files:\n    - !include exercise.py\n"
        )
        inside = "".join(f"    {line}\n" for line in QUESTION.splitlines())
        lines = [
            "import check50, check50.py\n\n",
            "@check50.check()\ndef cross_entropy():",
            '    """cross_entropy is the mean over the targets"""',
            "    import torch  # here, so that check50's two processes do not both import it",
            '    exercise = check50.py.import_("exercise.py")',
            f"{inside}    if not torch.allclose(exercise.cross_entropy(logits, targets), truth):",
            '        raise check50.Failure("that is not the mean")\n',
        ]
        write(self.folder / "checks" / "__init__.py", "\n".join(lines))

    def passed(self, printed: str) -> bool:
        """Read the smile."""
        found = re.search(r":([()|]).* cross_entropy is", printed)
        if found is None or found[1] == "|":
            raise Unjudged(printed)
        return found[1] == ")"


class Nbgrader(Peer):
    """nbgrader: a course with a gradebook, one assignment, one student."""

    name = "nbgrader"
    typed = "nbgrader autograde one --force"

    def submit(self, exercise: str) -> None:
        """Make the course, have nbgrader make the assignment of it, and hand a copy in."""
        write(self.folder / "nbgrader_config.py", "get_config().CourseDirectory.course_id = 'c'\n")
        hidden = f"### BEGIN HIDDEN TESTS\n{TEST}### END HIDDEN TESTS\n"
        marked = RIGHT.replace('`targets`."""\n', '`targets`."""\n    ### BEGIN SOLUTION\n')
        cells = [
            cell(f"{marked}    ### END SOLUTION\n", nbgrader=_marks("function", solution=True)),
            cell(hidden, nbgrader=_marks("test", solution=False)),
        ]
        write(self.folder / "source" / "one" / "problem.ipynb", notebook(cells))
        self.run("nbgrader generate_assignment one")
        given = json.loads((self.folder / "release" / "one" / "problem.ipynb").read_text())
        given["cells"][0]["source"] = exercise
        write(self.folder / "submitted" / "student" / "one" / "problem.ipynb", json.dumps(given))

    def forget(self) -> None:
        """Take the score out of the gradebook."""
        with closing(sqlite3.connect(self.folder / "gradebook.db")) as book, book:
            book.execute("UPDATE grade SET auto_score = NULL")

    def passed(self, printed: str) -> bool:
        """Read the score in the gradebook."""
        with closing(sqlite3.connect(self.folder / "gradebook.db")) as book:
            scores = [score for (score,) in book.execute("SELECT auto_score FROM grade")]
        if len(scores) != 1 or scores[0] is None:
            raise Unjudged(f"scores {scores}; {printed}")
        return bool(scores[0] == 1)


class OtterGrader(Peer):
    """otter-grader in its form without containers, which is the quicker one."""

    name = "otter-grader"
    typed = "otter run --autograder autograder.zip problem.ipynb"

    def submit(self, exercise: str) -> None:
        """Have otter make the assignment, and hand a copy in."""
        config = "# ASSIGNMENT CONFIG\ninit_cell: false\nexport_cell: false\n"
        raw = [config, "# BEGIN QUESTION\nname: one\npoints: 1", "# BEGIN SOLUTION"]
        cells = [{"cell_type": "raw", "metadata": {}, "source": text} for text in raw]
        cells += [cell(RIGHT), *_raw("# END SOLUTION", "# BEGIN TESTS"), cell(f"# HIDDEN\n{TEST}")]
        cells += _raw("# END TESTS", "# END QUESTION")
        write(self.folder / "made" / "problem.ipynb", notebook(cells))
        self.run("otter assign --no-run-tests --no-pdfs made/problem.ipynb dist")
        (made,) = (self.folder / "dist" / "autograder").glob("*.zip")
        made.replace(self.folder / "autograder.zip")
        given = json.loads((self.folder / "dist" / "student" / "problem.ipynb").read_text())
        (answer,) = (it for it in given["cells"] if it["cell_type"] == "code" and _asks(it))
        answer["source"] = exercise
        write(self.folder / "problem.ipynb", json.dumps(given))

    def forget(self) -> None:
        """Remove the results."""
        (self.folder / "results.json").unlink(missing_ok=True)

    def passed(self, printed: str) -> bool:
        """Read the results."""
        try:
            tests = json.loads((self.folder / "results.json").read_text())["tests"]
            return bool(sum(test.get("score", 0) for test in tests) == 1)
        except (OSError, KeyError) as error:
            raise Unjudged(printed) from error


def _asks(code: dict[str, Any]) -> bool:
    return "import peft" in "".join(code["source"])


def _raw(*texts: str) -> list[dict[str, Any]]:
    return [{"cell_type": "raw", "metadata": {}, "source": text} for text in texts]


def _marks(name: str, *, solution: bool) -> dict[str, Any]:
    marks = {"grade_id": name, "schema_version": 3, "solution": solution, "task": False}
    return {**marks, "grade": not solution, "locked": not solution, "points": 1}


def cell(source: str, **metadata: Any) -> dict[str, Any]:
    """Return a code cell."""
    empty: dict[str, Any] = {"execution_count": None, "outputs": []}
    return {"cell_type": "code", "metadata": metadata, "source": source, **empty}


def notebook(cells: list[dict[str, Any]]) -> str:
    """Return a notebook (https://nbformat.readthedocs.io, 4.5)."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, one in enumerate(cells):
        one["id"] = f"cell-{number}"
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    told = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(told)


def write(file: Path, text: str) -> None:
    """Write a file, its folder too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
