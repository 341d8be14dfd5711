"""Running a command that takes long: its output line by line, and an end to it after Ctrl-C."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_TICK = 0.2  # seconds of silence between two looks
_ENDS = 10.0  # seconds a command may take to undo what it had half done


class Following:
    """A command that runs, its two outputs joined."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The command's process."""
        return self._process.pid

    def lines(self) -> Iterator[str | None]:
        """Yield what the command prints, line by line, and None whenever it is silent for long."""
        heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()

        def read() -> None:
            for line in self._process.stdout or ():
                heard.put(line)
            heard.put(None)

        threading.Thread(target=read, daemon=True).start()
        while True:
            try:
                line = heard.get(timeout=_TICK)
            except queue.Empty:
                yield None
            else:
                if line is None:
                    return
                yield line

    def wait(self) -> int:
        """Return the command's exit code."""
        return self._process.wait()


@contextlib.contextmanager
def following(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    umask: int = -1,
) -> Iterator[Following]:
    """Yield ``command`` running; see that it is over afterwards, also after Ctrl-C.

    It is sent SIGINT then, and has some seconds to undo what it had half done.
    """
    process = subprocess.Popen(  # noqa: S603 (our own command, no shell)
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        umask=umask,
    )
    try:
        yield Following(process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_ENDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout:
            process.stdout.close()
