"""The terminal: each check as it is decided, then what it adds up to."""

from __future__ import annotations

import io
import os
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.text import Text

from verify.lab.problems import Problem, show
from verify.machine import ENVIRONMENT, advice
from verify.results import READING, CheckResult, Run, SkillResult

if TYPE_CHECKING:
    from rich.status import Status

_MARKS = {
    "passed": ("✓", "ok", "green"),
    "failed": ("✗", "NO", "red"),
    "advice": ("!", "!!", "bold magenta"),
    "not_run": ("·", "--", "dim"),
    "error": ("‼", "ERROR", "bold magenta"),
}


_PRINTED = 10  # lines of the exercise's output that are shown


def drop_output() -> None:
    """Have standard output go nowhere: what is still to be written would fail again at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class _Patient(Console):
    """A console whose reader may leave (``| head``): the run goes on, and its exit code counts."""

    def on_broken_pipe(self) -> None:
        """Say nothing more."""
        self.quiet = True
        drop_output()


class Screen:
    """Shows a run on the terminal. Learner's text is never taken for markup."""

    def __init__(self, *, color: bool = True) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal may know no more than ASCII
        self._console = _Patient(no_color=True if not color else None, highlight=False)
        self._status: Status | None = None
        self._waiting: list[CheckResult] = []
        self._began = time.perf_counter()
        self._fancy = (self._console.encoding or "").lower().startswith("utf")

    def event(self, event: dict[str, Any]) -> None:
        """Show one of the runner's events."""
        kind = event["event"]
        if kind == "job":
            self._stop()
            self._console.print(Text.assemble((event["skill"], "bold"), "  ", event["title"]))
            self.waiting("beginning")
        elif kind == "started":
            self.waiting(event["check"])
        elif kind == "lost":
            self.line("The runner ended on the way; waiting for it to come back.")
        elif kind == "waiting":
            self.waiting("another verification is running; waiting for it")
        elif kind == "result":
            self._result(msgspec.convert(event["result"], CheckResult))
        elif kind == "skill":
            self._stop()
            self._verdict(msgspec.convert(event["skill"], SkillResult))

    def waiting(self, text: str) -> None:
        """Show what is being waited for, on a terminal that can take it back."""
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status(Text(text))
            self._status.start()
        self._status.update(Text(text))

    def line(self, text: str) -> None:
        """Print a line."""
        self._stop()
        self._console.print(Text(text))

    def problem(self, problem: Problem) -> None:
        """Show what happened, the likely cause and what to type."""
        self._stop()
        show(problem, Console(stderr=True, no_color=self._console.no_color, highlight=False))

    def summary(self, run: Run) -> None:
        """Show what the run adds up to."""
        self._stop()
        told = run.readiness
        style = "bold green" if told.ready else "bold"
        self._console.print(Text(f"Readiness: {told.advice}", style))
        for skill, review in told.review.items():
            self._console.print(Text(f"  {skill}: review {review}"))
        self._optional(run.skills)
        if told.next:
            line = Text.assemble(("Next:", "bold"), f" {told.next}")
            self._console.print(line, soft_wrap=True)
        took = time.perf_counter() - self._began
        practice = " (practice: the seed was given)" if run.practice else ""
        where = f"{run.environment.runtime} runner, sealing {run.environment.sealing}"
        self._console.print(Text(f"seed {run.seed}{practice} · {where} · {took:.2f} s", "dim"))

    def _optional(self, skills: list[SkillResult]) -> None:
        """Name the optional exercises that are not ready: they block nothing."""
        exercises = [skill for skill in skills if any(c.name == READING for c in skill.checks)]
        names = [skill.skill for skill in exercises if not skill.required and not skill.ready]
        if names:
            self._console.print(Text(f"  optional, not ready: {', '.join(names)}", "dim"))

    def _result(self, result: CheckResult) -> None:
        if result.status == "not_run":
            self._waiting.append(result)
            return
        self._flush()
        kind = "advice" if result.status == "failed" and result.level == "advice" else result.status
        if result.status == "passed":
            self._print(kind, f"{result.title} {_told(result)}".rstrip())
            return
        self._print(kind, result.title)
        self._detail(result.message)
        if result.cause == ENVIRONMENT:
            self._fault(result.hint or "")
        elif result.hint:
            self._detail(result.hint, "Hint:")
        if result.review and result.status == "failed" and result.cause != ENVIRONMENT:
            self._detail(f'the lesson (README.md), section "{result.review}"', "Review:")

    def _fault(self, hint: str) -> None:
        """Show the likely cause, and the command whole: it is there to be copied."""
        cause, command = advice(hint)
        if cause:
            self._detail(cause, "Likely cause:")
        if command:
            line = Text.assemble(" " * 6, ("Type:", "bold"), f" {command}")
            self._console.print(line, soft_wrap=True)

    def _flush(self) -> None:
        """Show the checks that were not run, those for the same reason in one line."""
        reasons: dict[str, list[CheckResult]] = {}
        for result in self._waiting:
            reasons.setdefault(result.message, []).append(result)
        for reason, results in reasons.items():
            if len(results) == 1:
                self._print("not_run", f"{results[0].title} ({reason})")
            else:
                names = ", ".join(result.name for result in results)
                self._print("not_run", f"{len(results)} checks {reason} ({names})")
        self._waiting.clear()

    def _verdict(self, skill: SkillResult) -> None:
        self._flush()
        if skill.output and not skill.ready:
            self._printed(skill.output.splitlines())
        checks = [check for check in skill.checks if check.level == "check"]
        passed = sum(check.status == "passed" for check in checks)
        missing = sum(check.cause == "missing" for check in checks)
        told = f"{passed} of {len(checks) - missing} checks passed"
        told += f", {missing} not run here" if missing else ""
        if skill.ready:
            self._console.print(Text(f"  ready: {told}\n", "green"))
        else:
            self._console.print(Text(f"  not ready yet: {told}\n", "bold"))

    def _printed(self, lines: list[str]) -> None:
        """Show the last of what the exercise printed: people look for mistakes with print."""
        shown = lines[-_PRINTED:]
        more = f", the last {_PRINTED} of {len(lines)} lines" if len(lines) > _PRINTED else ""
        self._console.print(Text(f"  your code printed{more}:", "dim"))
        for line in shown:
            self._console.print(Text(f"    | {line[:200]}", "dim"), soft_wrap=True)

    def _print(self, kind: str, text: str) -> None:
        fancy, plain, style = _MARKS[kind]
        mark = fancy if self._fancy else plain
        self._block(mark, style, text, 2, "dim" if kind == "not_run" else "")

    def _detail(self, text: str, label: str = "") -> None:
        self._block(label, "bold", text, 6)

    def _block(self, label: str, label_style: str, text: str, indent: int, style: str = "") -> None:
        """Print ``text`` after ``label``, its further lines indented by two more."""
        width = max(self._console.width - 1, 30)
        first, *others = textwrap.wrap(
            f"{label} {text}" if label else text,
            width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 2 * bool(label)),
            break_on_hyphens=False,
        ) or [" " * indent + label]
        head = " " * indent + label
        assert first.startswith(head)
        line = Text.assemble((head, label_style), (first[len(head) :], style))
        self._console.print(line, soft_wrap=True)
        for other in others:
            self._console.print(Text(other, style), soft_wrap=True)

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def _told(result: CheckResult) -> str:
    return f"({result.message.rstrip('.')})" if result.message else ""
