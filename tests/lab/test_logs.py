"""Logs: the last lines, of one service or both, followed as they grow."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tests.lab.conftest import Said
from verify.lab import logs
from verify.lab.layout import Layout
from verify.lab.problems import Misuse


def test_the_last_lines_of_both(layout: Layout, said: Said) -> None:
    layout.log("jupyter").write_text("a\nb\nc\n")
    logs.show(layout, said, None, "2")
    assert said.text.splitlines() == [
        "jupyter | b",
        "jupyter | c",
        f"runner  | (nothing yet in {layout.log('runner')})",
    ]


def test_of_one_and_none(layout: Layout, said: Said) -> None:
    layout.log("jupyter").write_text("a\n")
    layout.log("runner").write_text("[not] markup\n")
    logs.show(layout, said, "runner", "5")
    assert said.text == "runner  | [not] markup\n"


@pytest.mark.parametrize(("service", "lines"), [("juypter", "1"), ("runner", "x"), ("", "1")])
def test_a_misuse_says_what_to_type(layout: Layout, said: Said, service: str, lines: str) -> None:
    with pytest.raises(Misuse) as caught:
        logs.show(layout, said, service, lines)
    assert caught.value.type_this.startswith("invoke lab.logs --")


def test_followed_over_half_lines_and_a_new_file_until_ctrl_c(
    layout: Layout, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_EVERY", 0.01)
    log = layout.log("runner")
    log.write_text("old\n")

    def write() -> None:
        for text, awaited in (("hal", "old"), ("f\n", "half"), ("new\n", "new")):
            if awaited == "new":  # another file of that name, there at once and whole
                other = log.with_suffix(".new")
                other.write_text(text)
                other.replace(log)
            else:
                with log.open("a") as file:
                    file.write(text)
            deadline = time.monotonic() + 5
            while awaited not in said.text and time.monotonic() < deadline:
                time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.05, write).start()
    logs.show(layout, said, "runner", "1", follow=True)
    assert said.text.splitlines() == [f"runner  | {word}" for word in ("old", "half", "new")]
